package main

import (
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Folder answers the calls of a folder.
type Folder struct {
	*simulator.Folder
	center *Center
}

// CreateVMTask refuses what vCenter refuses.
func (f *Folder) CreateVMTask(ctx *simulator.Context, req *types.CreateVM_Task) soap.HasFault {
	if fault := f.refuse(req); fault != nil {
		task := f.center.fail(f.Folder, "createVm", fault)
		return &methods.CreateVM_TaskBody{Res: &types.CreateVM_TaskResponse{Returnval: task}}
	}
	if req.Config.InstanceUuid != "" {
		f.center.uniqueUUID(&req.Config)
	}
	f.center.mu.Lock()
	f.center.wishes[f.Self.Value+"/"+req.Config.Name] = req.Config
	f.center.mu.Unlock()
	return f.Folder.CreateVMTask(ctx, req)
}

// refuse says what vCenter has against a new VM, and picks its host where none is named.
func (f *Folder) refuse(req *types.CreateVM_Task) types.BaseMethodFault {
	if fault := f.center.refuseName(f.Self, req.Config.Name); fault != nil {
		return fault
	}
	if req.Config.Files == nil || req.Config.Files.VmPathName == "" {
		return &types.InvalidVmConfig{Property: "configSpec.files.vmPathName"}
	}
	var path object.DatastorePath
	path.FromString(req.Config.Files.VmPathName)
	datastore := f.center.datastore(path.Datastore)
	if datastore == nil {
		fault := &types.InvalidDatastorePath{DatastorePath: req.Config.Files.VmPathName}
		fault.Name = path.Datastore
		return fault
	}
	if fault := f.center.refuseFull(path.Datastore); fault != nil {
		return fault
	}
	if f.center.registry.Get(req.Pool) == nil {
		return &types.ManagedObjectNotFound{Obj: req.Pool}
	}
	if req.Host == nil {
		if req.Host = f.center.pick(req.Pool, datastore, &req.Config); req.Host == nil {
			return &types.NoCompatibleHost{}
		}
	}
	if fault := f.center.refuseHost(*req.Host); fault != nil {
		return fault
	}
	if !slices.Contains(f.center.host(*req.Host).system.Datastore, datastore.Self) {
		fault := &types.DatastoreNotWritableOnHost{Host: *req.Host}
		fault.Name, fault.Datastore = datastore.Name, &datastore.Self
		return fault
	}
	return f.center.refuseDevices(*req.Host, &req.Config)
}

func (c *Center) datastore(name string) *simulator.Datastore {
	for _, entity := range c.registry.All("Datastore") {
		if found, is := entity.(*simulator.Datastore); is && found.Name == name {
			return found
		}
	}
	return nil
}

// pick chooses a host as DRS does, which knows memory and not GPUs: of those that have the datastore and offer the vGPU
// types, the one with the most memory that is not reserved.
func (c *Center) pick(pool types.ManagedObjectReference, datastore *simulator.Datastore, spec *types.VirtualMachineConfigSpec) *types.ManagedObjectReference {
	var best *types.ManagedObjectReference
	most := int64(-1)
	for _, host := range c.order {
		ref := host.system.Self
		if c.pool(host) != pool || !slices.Contains(host.system.Datastore, datastore.Self) ||
			c.refuseHost(ref) != nil || c.refuseDevices(ref, spec) != nil {
			continue
		}
		c.mu.Lock()
		unreserved := host.unreservedMB()
		c.mu.Unlock()
		if unreserved > most {
			best, most = &ref, unreserved
		}
	}
	return best
}

// Datacenter answers the calls of a data centre.
type Datacenter struct {
	*simulator.Datacenter
	center *Center
}

// PowerOnMultiVMTask powers VMs on in the order given, each on its own host: there is no DRS here.
func (d *Datacenter) PowerOnMultiVMTask(_ *simulator.Context, req *types.PowerOnMultiVM_Task) soap.HasFault {
	task := d.center.run(d.Datacenter, "powerOnMultiVM", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		result := types.ClusterPowerOnVmResult{}
		for _, vm := range req.Vm {
			res, err := methods.PowerOnVM_Task(d.center.background(), d.center.service, &types.PowerOnVM_Task{This: vm})
			if err == nil {
				result.Attempted = append(result.Attempted, types.ClusterAttemptedVmInfo{Vm: vm, Task: &res.Returnval})
			}
		}
		return result, nil
	})
	return &methods.PowerOnMultiVM_TaskBody{Res: &types.PowerOnMultiVM_TaskResponse{Returnval: task}}
}

// Authorization answers which privileges there are.
type Authorization struct {
	*simulator.AuthorizationManager
	center *Center
}

// HasPrivilegeOnEntities grants all but what is denied.
func (a *Authorization) HasPrivilegeOnEntities(req *types.HasPrivilegeOnEntities) soap.HasFault {
	body := a.AuthorizationManager.HasPrivilegeOnEntities(req).(*methods.HasPrivilegeOnEntitiesBody)
	a.center.mu.Lock()
	defer a.center.mu.Unlock()
	for i := range body.Res.Returnval {
		for j := range body.Res.Returnval[i].PrivAvailability {
			availability := &body.Res.Returnval[i].PrivAvailability[j]
			availability.IsGranted = !a.center.denied[availability.PrivId]
		}
	}
	return body
}
