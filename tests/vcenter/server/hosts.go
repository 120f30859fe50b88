package main

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// HostSystem answers the calls of a host.
type HostSystem struct {
	*simulator.HostSystem
	center *Center
}

// EnterMaintenanceModeTask waits until no VM runs on the host; nothing here moves them away.
func (h *HostSystem) EnterMaintenanceModeTask(_ *simulator.Context, req *types.EnterMaintenanceMode_Task) soap.HasFault {
	task := h.center.run(h.HostSystem, "enterMaintenanceMode", func(task *simulator.Task) (types.AnyType, types.BaseMethodFault) {
		deadline := time.Now().Add(time.Duration(req.Timeout) * time.Second)
		for {
			switch {
			case h.Runtime.ConnectionState != types.HostSystemConnectionStateConnected:
				return nil, &types.HostNotConnected{}
			case !h.center.running(h.Self):
				h.center.setMaintenance(h.HostSystem, true)
				return nil, nil
			case req.Timeout > 0 && time.Now().After(deadline):
				return nil, &types.Timedout{}
			case h.center.cancelled(task):
				return nil, &types.RequestCanceled{}
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return &methods.EnterMaintenanceMode_TaskBody{Res: &types.EnterMaintenanceMode_TaskResponse{Returnval: task}}
}

// ExitMaintenanceModeTask lets VMs run there again.
func (h *HostSystem) ExitMaintenanceModeTask(_ *simulator.Context, _ *types.ExitMaintenanceMode_Task) soap.HasFault {
	task := h.center.run(h.HostSystem, "exitMaintenanceMode", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		switch {
		case h.Runtime.ConnectionState != types.HostSystemConnectionStateConnected:
			return nil, &types.HostNotConnected{}
		case !h.Runtime.InMaintenanceMode:
			return nil, &types.InvalidState{}
		}
		h.center.setMaintenance(h.HostSystem, false)
		return nil, nil
	})
	return &methods.ExitMaintenanceMode_TaskBody{Res: &types.ExitMaintenanceMode_TaskResponse{Returnval: task}}
}

// RebootHostTask ends when the host begins to go down.
func (h *HostSystem) RebootHostTask(_ *simulator.Context, req *types.RebootHost_Task) soap.HasFault {
	task := h.center.run(h.HostSystem, "reboot", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if h.Runtime.ConnectionState != types.HostSystemConnectionStateConnected {
			return nil, &types.HostNotConnected{}
		}
		if !h.Runtime.InMaintenanceMode && !req.Force {
			return nil, &types.InvalidState{}
		}
		h.center.reboot(h.center.host(h.Self))
		return nil, nil
	})
	return &methods.RebootHost_TaskBody{Res: &types.RebootHost_TaskResponse{Returnval: task}}
}

// DisconnectHostTask lets the host go.
func (h *HostSystem) DisconnectHostTask(_ *simulator.Context, _ *types.DisconnectHost_Task) soap.HasFault {
	task := h.center.run(h.HostSystem, "disconnectHost", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		h.center.setConnection(h.HostSystem, types.HostSystemConnectionStateDisconnected)
		return nil, nil
	})
	return &methods.DisconnectHost_TaskBody{Res: &types.DisconnectHost_TaskResponse{Returnval: task}}
}

// ReconnectHostTask takes it back.
func (h *HostSystem) ReconnectHostTask(_ *simulator.Context, _ *types.ReconnectHost_Task) soap.HasFault {
	task := h.center.run(h.HostSystem, "reconnectHost", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		h.center.setConnection(h.HostSystem, types.HostSystemConnectionStateConnected)
		return nil, nil
	})
	return &methods.ReconnectHost_TaskBody{Res: &types.ReconnectHost_TaskResponse{Returnval: task}}
}

// machines returns the VMs of a host.
func (c *Center) machines(host types.ManagedObjectReference) []*simulator.VirtualMachine {
	var found []*simulator.VirtualMachine
	for _, entity := range c.registry.All("VirtualMachine") {
		if vm, is := entity.(*simulator.VirtualMachine); is && vm.Runtime.Host != nil && *vm.Runtime.Host == host {
			found = append(found, vm)
		}
	}
	return found
}

// running says whether a VM runs on a host.
func (c *Center) running(host types.ManagedObjectReference) bool {
	for _, vm := range c.machines(host) {
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			return true
		}
	}
	return false
}

func (c *Center) setMaintenance(host *simulator.HostSystem, on bool) {
	c.registry.AtomicUpdate(c.context(), host, []types.PropertyChange{
		{Name: "runtime.inMaintenanceMode", Val: on}, {Name: "summary.runtime.inMaintenanceMode", Val: on},
	})
}

// setConnection lets a host go or come back, and its VMs with it.
func (c *Center) setConnection(host *simulator.HostSystem, state types.HostSystemConnectionState) {
	c.registry.AtomicUpdate(c.context(), host, []types.PropertyChange{
		{Name: "runtime.connectionState", Val: state}, {Name: "summary.runtime.connectionState", Val: state},
	})
	machines := types.VirtualMachineConnectionStateConnected
	if state != types.HostSystemConnectionStateConnected {
		machines = types.VirtualMachineConnectionStateDisconnected
	}
	for _, vm := range c.machines(host.Self) {
		c.registry.AtomicUpdate(c.context(), vm, []types.PropertyChange{
			{Name: "runtime.connectionState", Val: machines}, {Name: "summary.runtime.connectionState", Val: machines},
		})
	}
}

// reboot takes a host away, with its VMs, and brings it back later with all that waited for a reboot.
func (c *Center) reboot(host *Host) {
	c.setConnection(host.system, types.HostSystemConnectionStateNotResponding)
	for _, vm := range c.machines(host.system.Self) {
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			c.setPower(vm, types.VirtualMachinePowerStatePoweredOff)
		}
	}
	time.AfterFunc(time.Duration(host.RebootMS)*time.Millisecond, func() {
		c.mu.Lock()
		host.gpus.Reboot()
		host.activatePassthrough()
		host.activateGraphics()
		c.publish(c.context(), host)
		c.mu.Unlock()
		now := time.Now()
		c.registry.AtomicUpdate(c.context(), host.system, []types.PropertyChange{
			{Name: "runtime.bootTime", Val: now}, {Name: "summary.runtime.bootTime", Val: now},
		})
		c.setConnection(host.system, types.HostSystemConnectionStateConnected)
	})
}

// setPower changes the state of a VM from outside of the API.
func (c *Center) setPower(vm *simulator.VirtualMachine, state types.VirtualMachinePowerState) {
	c.registry.AtomicUpdate(c.context(), vm, []types.PropertyChange{
		{Name: "runtime.powerState", Val: state}, {Name: "summary.runtime.powerState", Val: state},
	})
}
