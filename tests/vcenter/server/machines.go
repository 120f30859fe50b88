package main

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter/gpu"
)

// Machine answers the calls of a VM.
type Machine struct {
	*simulator.VirtualMachine
	center *Center
}

// PowerOnVMTask gives the VM its GPUs first, and fails as vCenter does where they are not there.
func (m *Machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	if fault := m.center.claim(ctx, m.VirtualMachine); fault != nil {
		task := m.center.fail(m.VirtualMachine, "powerOn", fault)
		return &methods.PowerOnVM_TaskBody{Res: &types.PowerOnVM_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.PowerOnVMTask(ctx, req)
}

// PowerOffVMTask needs the host.
func (m *Machine) PowerOffVMTask(ctx *simulator.Context, req *types.PowerOffVM_Task) soap.HasFault {
	if fault := m.center.refuseAway(*m.Runtime.Host); fault != nil {
		task := m.center.fail(m.VirtualMachine, "powerOff", fault)
		return &methods.PowerOffVM_TaskBody{Res: &types.PowerOffVM_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.PowerOffVMTask(ctx, req)
}

// DestroyTask needs the host.
func (m *Machine) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	if fault := m.center.refuseAway(*m.Runtime.Host); fault != nil {
		task := m.center.fail(m.VirtualMachine, "destroy", fault)
		return &methods.Destroy_TaskBody{Res: &types.Destroy_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.DestroyTask(ctx, req)
}

// ReconfigVMTask refuses what vCenter refuses.
func (m *Machine) ReconfigVMTask(ctx *simulator.Context, req *types.ReconfigVM_Task) soap.HasFault {
	fault := m.center.refuseChange(m.VirtualMachine, &req.Spec)
	if fault == nil && req.Spec.Name != "" && req.Spec.Name != m.Name {
		fault = m.center.refuseName(*m.Parent, req.Spec.Name)
	}
	if fault != nil {
		task := m.center.fail(m.VirtualMachine, "reconfigVm", fault)
		return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
	}
	m.center.keep(m.Config, &req.Spec)
	return m.VirtualMachine.ReconfigVMTask(ctx, req)
}

// ResetVMTask keeps the GPUs: the simulator's goes through off and on.
func (m *Machine) ResetVMTask(_ *simulator.Context, _ *types.ResetVM_Task) soap.HasFault {
	task := m.center.run(m.VirtualMachine, "reset", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			return nil, powerState(m.VirtualMachine, types.VirtualMachinePowerStatePoweredOn)
		}
		return nil, nil
	})
	return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: task}}
}

// RenameTask refuses a name that is there.
func (m *Machine) RenameTask(ctx *simulator.Context, req *types.Rename_Task) soap.HasFault {
	if fault := m.center.refuseName(*m.Parent, req.NewName); fault != nil && req.NewName != m.Name {
		task := m.center.fail(m.VirtualMachine, "rename", fault)
		return &methods.Rename_TaskBody{Res: &types.Rename_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.RenameTask(ctx, req)
}

// RelocateVMTask moves a VM that is off; a running one with a GPU stays where it is.
func (m *Machine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	var fault types.BaseMethodFault
	if to := req.Spec.Host; to != nil && *to != *m.Runtime.Host {
		on := m.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOff
		if fault = m.center.refuseHost(*to); fault == nil && on && len(passthroughs(m.Config.Hardware.Device)) > 0 {
			fault = powerState(m.VirtualMachine, types.VirtualMachinePowerStatePoweredOff)
		}
	}
	if fault == nil {
		fault = m.center.refuseSpace(req.Spec.Datastore)
	}
	if fault != nil {
		task := m.center.fail(m.VirtualMachine, "relocateVm", fault)
		return &methods.RelocateVM_TaskBody{Res: &types.RelocateVM_TaskResponse{Returnval: task}}
	}
	return m.VirtualMachine.RelocateVMTask(ctx, req)
}

// CloneVMTask clones and then powers on through the rules.
func (m *Machine) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	host := m.Runtime.Host
	if req.Spec.Location.Host != nil {
		host = req.Spec.Location.Host
	}
	fault := m.center.refuseHost(*host)
	if fault == nil && req.Spec.Config != nil {
		fault = m.center.refuseDevices(*host, req.Spec.Config)
	}
	if fault == nil {
		fault = m.center.refuseSpace(req.Spec.Location.Datastore)
	}
	if fault != nil {
		task := m.center.fail(m.VirtualMachine, "cloneVm", fault)
		return &methods.CloneVM_TaskBody{Res: &types.CloneVM_TaskResponse{Returnval: task}}
	}
	if config := req.Spec.Config; config != nil && config.InstanceUuid != "" {
		m.center.uniqueUUID(config)
	}
	powerOn := req.Spec.PowerOn
	req.Spec.PowerOn = false
	body := m.VirtualMachine.CloneVMTask(ctx, req).(*methods.CloneVM_TaskBody)
	if body.Fault() != nil {
		return body
	}
	inner := body.Res.Returnval
	body.Res.Returnval = m.center.run(m.VirtualMachine, "cloneVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result, fault := m.center.await(inner)
		if fault != nil {
			return nil, fault
		}
		return result, m.center.finishClone(result.(types.ManagedObjectReference), req.Spec.Config, powerOn)
	})
	return body
}

// finishClone sets what the simulator's clone leaves out (it takes over few fields of the specification).
func (c *Center) finishClone(ref types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec, powerOn bool) types.BaseMethodFault {
	if spec != nil {
		rest := *spec
		rest.DeviceChange = nil // it did these
		rest.Name, rest.Files = "", nil
		task, err := methods.ReconfigVM_Task(c.background(), c.service, &types.ReconfigVM_Task{This: ref, Spec: rest})
		if err != nil {
			return &types.SystemError{Reason: err.Error()}
		}
		if _, fault := c.await(task.Returnval); fault != nil {
			return fault
		}
	}
	if powerOn {
		task, err := methods.PowerOnVM_Task(c.background(), c.service, &types.PowerOnVM_Task{This: ref})
		if err != nil {
			return &types.SystemError{Reason: err.Error()}
		}
		_, fault := c.await(task.Returnval)
		return fault
	}
	return nil
}

// claim gives a VM its GPUs and its memory, or says why not.
func (c *Center) claim(ctx *simulator.Context, vm *simulator.VirtualMachine) types.BaseMethodFault {
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn || vm.Config.Template {
		return nil // the simulator refuses it
	}
	if fault := c.refuseHost(*vm.Runtime.Host); fault != nil {
		return fault
	}
	if fault := c.refuseByRule(vm); fault != nil {
		return fault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	host := c.hosts[*vm.Runtime.Host]
	if _, claimed := host.memoryMB[vm.Self.Value]; claimed {
		return nil // another power-on is under way
	}
	devices := passthroughs(vm.Config.Hardware.Device)
	reserved, memoryMB := reservation(vm.Config), int64(vm.Config.Hardware.MemoryMB)
	if len(devices) > 0 && reserved < memoryMB {
		return &types.GenericVmConfigFault{Reason: invalidMemory(memoryMB)}
	}
	if unreserved := host.unreservedMB(); reserved > unreserved {
		return &types.InsufficientMemoryResourcesFault{Requested: reserved << 20, Unreserved: unreserved << 20}
	}
	wants, fault := c.wants(host, devices)
	if fault != nil {
		return fault
	}
	if !host.gpus.Claim(vm.Self.Value, wants) {
		if slices.ContainsFunc(wants, func(want gpu.Want) bool { return want.Type != "" }) {
			return &types.InsufficientGraphicsResourcesFault{}
		}
		return &types.GenericVmConfigFault{Reason: "Module 'DevicePowerOn' power on failed. The PCI device is not available for passthrough."}
	}
	host.memoryMB[vm.Self.Value] = reserved
	if len(wants) > 0 {
		c.publish(ctx, host)
	}
	return nil
}

// unreservedMB is the memory that no running VM has for itself.
func (h *Host) unreservedMB() int64 {
	unreserved := int64(h.RAMGiB) * 1024
	for _, amount := range h.memoryMB {
		unreserved -= amount
	}
	return unreserved
}

// wants says what the devices of a VM ask for; the caller holds the lock.
func (c *Center) wants(host *Host, devices []*types.VirtualPCIPassthrough) ([]gpu.Want, types.BaseMethodFault) {
	var wants []gpu.Want
	boards, series := map[*gpu.Model]bool{}, map[string]bool{}
	for _, device := range devices {
		switch backing := device.Backing.(type) {
		case *types.VirtualPCIPassthroughVmiopBackingInfo:
			kind := host.gpus.Offers(backing.Vgpu)
			if kind == nil {
				return nil, &types.InsufficientGraphicsResourcesFault{}
			}
			boards[host.gpus.Board(backing.Vgpu)], series[kind.Series] = true, true
			wants = append(wants, gpu.Want{Type: backing.Vgpu})
		case *types.VirtualPCIPassthroughDeviceBackingInfo:
			if found := host.device(backing.Id); found == nil || !found.Active {
				return nil, &types.GenericVmConfigFault{Reason: "Module 'DevicePowerOn' power on failed. PCI device " + backing.Id + " is not enabled for passthrough."}
			} else if found.Card != nil {
				wants = append(wants, gpu.Want{PCI: backing.Id})
			}
		case *types.VirtualPCIPassthroughDynamicBackingInfo:
			allowed := map[int]bool{}
			for _, device := range backing.AllowedDevice {
				if device.VendorId == nvidia {
					allowed[int(device.DeviceId)] = true
				}
			}
			wants = append(wants, gpu.Want{Devices: allowed, Bound: func(card *gpu.Card) { backing.AssignedId = card.PCI }})
		}
	}
	if len(boards) > 1 || len(series) > 1 {
		return nil, &types.GenericVmConfigFault{Reason: "The vGPUs of a virtual machine must be of one board and one series."}
	}
	return wants, nil
}
