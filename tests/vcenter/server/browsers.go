package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Browser answers what VMs may be on a host.
type Browser struct {
	*simulator.EnvironmentBrowser
	center *Center
}

// QueryConfigTarget adds the GPUs; without a host, those of all hosts.
func (b *Browser) QueryConfigTarget(ctx *simulator.Context, req *types.QueryConfigTarget) soap.HasFault {
	body := b.EnvironmentBrowser.QueryConfigTarget(ctx, req).(*methods.QueryConfigTargetBody)
	b.center.mu.Lock()
	defer b.center.mu.Unlock()
	for _, host := range b.center.order {
		if req.Host == nil || *req.Host == host.system.Self {
			host.target(body.Res.Returnval)
		}
	}
	return body
}

// CompatibilityChecker answers whether a configuration may be.
type CompatibilityChecker struct {
	*simulator.VmCompatibilityChecker
	center *Center
}

// CheckVmConfigTask checks the devices against the host, beside what the simulator checks.
func (k *CompatibilityChecker) CheckVmConfigTask(ctx *simulator.Context, req *types.CheckVmConfig_Task) soap.HasFault {
	body := k.VmCompatibilityChecker.CheckVmConfigTask(ctx, req).(*methods.CheckVmConfig_TaskBody)
	inner, host := body.Res.Returnval, req.Host
	if vm, is := k.center.machine(req.Vm); is && host == nil {
		host = vm.Runtime.Host
	}
	if host == nil {
		return body
	}
	body.Res.Returnval = k.center.run(*host, "checkVmConfig", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result, fault := k.center.await(inner)
		if fault != nil {
			return result, fault
		}
		checks := result.(types.ArrayOfCheckResult)
		refused := k.center.refuseHost(*host)
		if refused == nil {
			refused = k.center.refuseDevices(*host, &req.Spec)
		}
		if refused != nil {
			checks.CheckResult[0].Error = append(checks.CheckResult[0].Error, *localized(refused))
		}
		return checks, nil
	})
	return body
}

// CheckPowerOnTask tries whether a VM would get its GPUs, and gives them back.
func (k *CompatibilityChecker) CheckPowerOnTask(ctx *simulator.Context, req *types.CheckPowerOn_Task) soap.HasFault {
	vm, is := k.center.machine(&req.Vm)
	task := k.center.run(req.Vm, "checkPowerOn", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		if !is {
			return nil, &types.ManagedObjectNotFound{Obj: req.Vm}
		}
		check := types.CheckResult{Vm: &req.Vm, Host: vm.Runtime.Host}
		if k.center.claimed(vm) {
			check.Error = append(check.Error, *localized(powerState(vm, types.VirtualMachinePowerStatePoweredOff)))
		} else if fault := k.center.claim(ctx, vm); fault != nil {
			check.Error = append(check.Error, *localized(fault))
		} else {
			k.center.release(ctx, req.Vm)
		}
		return types.ArrayOfCheckResult{CheckResult: []types.CheckResult{check}}, nil
	})
	return &methods.CheckPowerOn_TaskBody{Res: &types.CheckPowerOn_TaskResponse{Returnval: task}}
}

// claimed says whether a VM runs or is about to.
func (c *Center) claimed(vm *simulator.VirtualMachine) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, claimed := c.hosts[*vm.Runtime.Host].memoryMB[vm.Self.Value]
	return claimed
}

func (c *Center) machine(ref *types.ManagedObjectReference) (*simulator.VirtualMachine, bool) {
	if ref == nil {
		return nil, false
	}
	vm, is := c.registry.Get(*ref).(*simulator.VirtualMachine)
	return vm, is
}
