package main

import (
	"fmt"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter/gpu"
)

// Center adds to the simulator what vCenter has. It sits behind three hooks: Registry.Handler answers a call with an
// object of this package, a registered object is told of changes, and the HTTP handler is wrapped.
type Center struct {
	model    *simulator.Model
	service  *simulator.Service
	registry *simulator.Registry
	models   map[string]*gpu.Model
	faults   *Faults
	calls    *Calls

	mu     sync.Mutex // guards what follows, and all GPUs; never held while an object other than a host is locked
	hosts  map[types.ManagedObjectReference]*Host
	order  []*Host                                   // as they were made
	wishes map[string]types.VirtualMachineConfigSpec // of VMs in creation, by folder and name
	full   map[string]bool                           // datastores without space
	denied map[string]bool                           // privileges that nobody has
}

// Host is a host with what the simulator does not know of it.
type Host struct {
	HostSpec
	system   *simulator.HostSystem
	gpus     gpu.Host
	wanted   types.HostGraphicsConfig // what UpdateGraphicsConfig asked for
	devices  []*Device
	memoryMB map[string]int64 // reserved by VMs that run, by managed object id
	graphics *GraphicsManager
	passthru *PassthruSystem
}

// Device is a PCI device of a host.
type Device struct {
	types.HostPciDevice
	NUMA            int
	Capable         bool
	Enabled, Active bool
	Card            *gpu.Card // nil for a network adapter
}

// answered is the reference under which a call goes on once an object of this package answers it: the simulator
// prefers the object of the session or of the registry, so it must find none.
var answered = types.ManagedObjectReference{Type: "Answered", Value: "by-vcenter"}

// answer is Registry.Handler: it may refuse a call, or let another object answer it.
func (c *Center) answer(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	if !internal(ctx) {
		if fault := c.faults.refuse(method.Name); fault != nil {
			return nil, fault
		}
	}
	if ctx.Session == nil {
		return nil, nil // the simulator refuses it, and its fault names the object that was called
	}
	var instead mo.Reference
	switch object := ctx.Map.Get(method.This).(type) {
	case *simulator.VirtualMachine:
		instead = &Machine{object, c}
	case *simulator.Folder:
		instead = &Folder{object, c}
	case *simulator.HostSystem:
		instead = &HostSystem{object, c}
	case *simulator.Datacenter:
		instead = &Datacenter{object, c}
	case *simulator.EnvironmentBrowser:
		instead = &Browser{object, c}
	case *simulator.VmCompatibilityChecker:
		instead = &CompatibilityChecker{object, c}
	case *simulator.AuthorizationManager:
		instead = &Authorization{object, c}
	default:
		return nil, nil
	}
	method.This = answered
	return instead, nil
}

// internal says whether a call comes from this program.
func internal(ctx *simulator.Context) bool { return ctx.Session != nil && ctx.Session.UserName == "" }

// host returns what this package knows of a host.
func (c *Center) host(ref types.ManagedObjectReference) *Host {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts[ref]
}

func (c *Center) hostByName(name string) (*Host, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, host := range c.hosts {
		if host.Name == name {
			return host, nil
		}
	}
	return nil, fmt.Errorf("no host %q", name)
}

// Reference makes the centre an object that the registry tells of changes.
func (c *Center) Reference() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "Center", Value: "center"}
}

// PutObject is told of new objects.
func (c *Center) PutObject(*simulator.Context, mo.Reference) {}

// UpdateObject is told of changes: a VM that is off has no GPU, a VM that is made gets what the simulator leaves out.
func (c *Center) UpdateObject(ctx *simulator.Context, object mo.Reference, changes []types.PropertyChange) {
	machine, is := object.(*mo.VirtualMachine)
	if !is {
		return
	}
	for _, change := range changes {
		switch {
		case change.Name == "runtime.powerState" && change.Val != types.VirtualMachinePowerStatePoweredOn:
			c.release(ctx, machine.Self)
		case change.Name == "name" && machine.Parent != nil:
			c.complete(machine)
		}
	}
}

// RemoveObject is told of removals.
func (c *Center) RemoveObject(ctx *simulator.Context, ref types.ManagedObjectReference) {
	if ref.Type == "VirtualMachine" {
		c.release(ctx, ref)
	}
}

// release takes GPUs and memory away from a VM, wherever it had them.
func (c *Center) release(ctx *simulator.Context, vm types.ManagedObjectReference) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, host := range c.hosts {
		delete(host.memoryMB, vm.Value)
		if host.gpus.Release(vm.Value) {
			c.publish(ctx, host)
		}
	}
}
