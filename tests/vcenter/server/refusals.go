package main

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// invalidMemory is what ESXi says where a VM with a GPU has not all its memory reserved.
func invalidMemory(memoryMB int64) string {
	return fmt.Sprintf("Invalid memory setting: memory reservation (sched.mem.min) should be equal to memsize(%d).", memoryMB)
}

// reservation is the memory that a VM has for itself when it runs [MB].
func reservation(config *types.VirtualMachineConfigInfo) int64 {
	if config.MemoryReservationLockedToMax != nil && *config.MemoryReservationLockedToMax {
		return int64(config.Hardware.MemoryMB)
	}
	if config.MemoryAllocation != nil && config.MemoryAllocation.Reservation != nil {
		return *config.MemoryAllocation.Reservation
	}
	return 0
}

// passthroughs returns the PCI devices of a VM.
func passthroughs(devices []types.BaseVirtualDevice) []*types.VirtualPCIPassthrough {
	var found []*types.VirtualPCIPassthrough
	for _, device := range devices {
		if pci, is := device.(*types.VirtualPCIPassthrough); is {
			found = append(found, pci)
		}
	}
	return found
}

func powerState(vm *simulator.VirtualMachine, wanted types.VirtualMachinePowerState) types.BaseMethodFault {
	return &types.InvalidPowerState{RequestedState: wanted, ExistingState: vm.Runtime.PowerState}
}

// refuseHost: a host that is away or in maintenance takes no VM and powers none on.
func (c *Center) refuseHost(ref types.ManagedObjectReference) types.BaseMethodFault {
	if fault := c.refuseAway(ref); fault != nil {
		return fault
	}
	if c.host(ref).system.Runtime.InMaintenanceMode {
		return &types.InvalidState{}
	}
	return nil
}

// refuseAway: nothing is done on a host that does not respond.
func (c *Center) refuseAway(ref types.ManagedObjectReference) types.BaseMethodFault {
	host := c.host(ref)
	switch {
	case host == nil:
		return &types.ManagedObjectNotFound{Obj: ref}
	case host.system.Runtime.ConnectionState != types.HostSystemConnectionStateConnected:
		return &types.HostNotConnected{}
	}
	return nil
}

// refuseName: names in a folder are unique.
func (c *Center) refuseName(folder types.ManagedObjectReference, name string) types.BaseMethodFault {
	parent, is := c.registry.Get(folder).(*simulator.Folder)
	if !is {
		return nil
	}
	if found := c.registry.FindByName(name, parent.ChildEntity); found != nil {
		return &types.DuplicateName{Name: name, Object: found.Reference()}
	}
	return nil
}

// refuseSpace: nothing is put on a datastore that is full.
func (c *Center) refuseSpace(ref *types.ManagedObjectReference) types.BaseMethodFault {
	if ref == nil {
		return nil
	}
	datastore, is := c.registry.Get(*ref).(*simulator.Datastore)
	if !is {
		return &types.ManagedObjectNotFound{Obj: *ref}
	}
	return c.refuseFull(datastore.Name)
}

func (c *Center) refuseFull(name string) types.BaseMethodFault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full[name] {
		return &types.NoDiskSpace{FileFault: types.FileFault{File: "[" + name + "]"}, Datastore: name}
	}
	return nil
}

// refuseDevices: a vGPU type that the host does not offer, a PCI device that it does not have.
func (c *Center) refuseDevices(ref types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	host := c.host(ref)
	for i, change := range spec.DeviceChange {
		config := change.GetVirtualDeviceConfigSpec()
		device, is := config.Device.(*types.VirtualPCIPassthrough)
		if !is || config.Operation == types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		known := true
		switch backing := device.Backing.(type) {
		case *types.VirtualPCIPassthroughVmiopBackingInfo:
			known = host.gpus.Offers(backing.Vgpu) != nil
		case *types.VirtualPCIPassthroughDeviceBackingInfo:
			known = host.device(backing.Id) != nil
		}
		if !known {
			fault := &types.InvalidDeviceBacking{}
			fault.Property, fault.DeviceIndex = fmt.Sprintf("configSpec.deviceChange[%d].device.backing", i), int32(i)
			return fault
		}
	}
	return nil
}

// refuseChange: a stale changeVersion, a device or size that cannot change while the VM runs, devices that are not there.
func (c *Center) refuseChange(vm *simulator.VirtualMachine, spec *types.VirtualMachineConfigSpec) types.BaseMethodFault {
	if spec.ChangeVersion != "" && spec.ChangeVersion != vm.Config.ChangeVersion {
		return &types.ConcurrentAccess{}
	}
	if fault := c.refuseAway(*vm.Runtime.Host); fault != nil {
		return fault
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff {
		hot := func(enabled *bool) bool { return enabled != nil && *enabled }
		changed := spec.Firmware != "" && spec.Firmware != vm.Config.Firmware
		changed = changed || spec.NumCPUs != 0 && spec.NumCPUs != vm.Config.Hardware.NumCPU && !hot(vm.Config.CpuHotAddEnabled)
		changed = changed || spec.MemoryMB != 0 && spec.MemoryMB != int64(vm.Config.Hardware.MemoryMB) && !hot(vm.Config.MemoryHotAddEnabled)
		changed = changed || spec.VirtualNuma != nil
		for _, change := range spec.DeviceChange {
			_, pci := change.GetVirtualDeviceConfigSpec().Device.(*types.VirtualPCIPassthrough)
			changed = changed || pci
		}
		if changed {
			return powerState(vm, types.VirtualMachinePowerStatePoweredOff)
		}
	}
	return c.refuseDevices(*vm.Runtime.Host, spec)
}

// keep puts what the simulator drops from a specification into a VM's configuration.
func (c *Center) keep(config *types.VirtualMachineConfigInfo, spec *types.VirtualMachineConfigSpec) {
	if numa := spec.VirtualNuma; numa != nil {
		config.NumaInfo = &types.VirtualMachineVirtualNumaInfo{
			CoresPerNumaNode: numa.CoresPerNumaNode, VnumaOnCpuHotaddExposed: numa.ExposeVnumaOnCpuHotadd,
		}
	}
	if locked := spec.MemoryReservationLockedToMax; locked != nil && *locked {
		memoryMB := int64(config.Hardware.MemoryMB)
		if spec.MemoryMB != 0 {
			memoryMB = spec.MemoryMB
		}
		allocation := *config.MemoryAllocation
		allocation.Reservation = &memoryMB
		config.MemoryAllocation = &allocation
	}
}

// complete finishes a VM that the simulator has just made.
func (c *Center) complete(machine *mo.VirtualMachine) {
	c.mu.Lock()
	spec, there := c.wishes[machine.Parent.Value+"/"+machine.Config.Name]
	delete(c.wishes, machine.Parent.Value+"/"+machine.Config.Name)
	c.mu.Unlock()
	// pyVmomi does not read the empty words that the simulator leaves.
	for _, runtime := range []*types.VirtualMachineRuntimeInfo{&machine.Runtime, &machine.Summary.Runtime} {
		runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateNotConfigured
		runtime.RecordReplayState = types.VirtualMachineRecordReplayStateInactive
	}
	machine.GuestHeartbeatStatus = types.ManagedEntityStatusGray
	if there {
		c.keep(machine.Config, &spec)
	}
}

// uniqueUUID gives a VM another instance UUID where its own is in use, as vCenter does.
func (c *Center) uniqueUUID(spec *types.VirtualMachineConfigSpec) {
	for _, entity := range c.registry.All("VirtualMachine") {
		if vm, is := entity.(*simulator.VirtualMachine); is && vm.Config != nil && vm.Config.InstanceUuid == spec.InstanceUuid {
			spec.InstanceUuid = uuid.NewString()
			return
		}
	}
}
