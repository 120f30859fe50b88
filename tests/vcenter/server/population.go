package main

import (
	"errors"
	"fmt"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// makeVMs makes VMs through the API, by all its rules, and powers them on in the order given.
func (c *Center) makeVMs(specs []VMSpec) error {
	ctx := c.background()
	tasks := make([]types.ManagedObjectReference, len(specs))
	for i, spec := range specs {
		request, err := c.request(spec)
		if err != nil {
			return fmt.Errorf("VM %s: %w", spec.Name, err)
		}
		res, err := methods.CreateVM_Task(ctx, c.service, request)
		if err != nil {
			return fmt.Errorf("VM %s: %w", spec.Name, err)
		}
		tasks[i] = res.Returnval
	}
	made := make([]types.ManagedObjectReference, len(specs))
	for i, spec := range specs {
		result, fault := c.await(tasks[i])
		if fault != nil {
			return fmt.Errorf("VM %s: %s", spec.Name, localized(fault).LocalizedMessage)
		}
		made[i] = result.(types.ManagedObjectReference)
	}
	started := map[string]types.ManagedObjectReference{}
	for i, spec := range specs { // a VM gets its GPUs when the call comes, so the order holds
		if spec.PoweredOn {
			res, err := methods.PowerOnVM_Task(ctx, c.service, &types.PowerOnVM_Task{This: made[i]})
			if err != nil {
				return fmt.Errorf("VM %s: %w", spec.Name, err)
			}
			started[spec.Name] = res.Returnval
		}
	}
	for name, task := range started {
		if _, fault := c.await(task); fault != nil {
			return fmt.Errorf("VM %s: %s", name, localized(fault).LocalizedMessage)
		}
	}
	return nil
}

func (c *Center) request(spec VMSpec) (*types.CreateVM_Task, error) {
	host, err := c.hostByName(spec.Host)
	if err != nil {
		return nil, err
	}
	folder, err := c.folder(spec.Folder)
	if err != nil {
		return nil, err
	}
	datastore := spec.Datastore
	if datastore == "" {
		if len(host.Datastores) == 0 {
			return nil, errors.New("its host has no datastore")
		}
		datastore = host.Datastores[0]
	}
	config := types.VirtualMachineConfigSpec{
		Name: spec.Name, GuestId: "ubuntu64Guest", NumCPUs: spec.VCPUs, MemoryMB: int64(spec.RAMGiB) * 1024,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + datastore + "]"}, InstanceUuid: spec.InstanceUUID,
		MemoryReservationLockedToMax: types.NewBool(spec.Reserved), Firmware: "efi",
	}
	for key, value := range spec.ExtraConfig {
		config.ExtraConfig = append(config.ExtraConfig, &types.OptionValue{Key: key, Value: value})
	}
	for i, backing := range c.backings(host, spec) {
		device := &types.VirtualPCIPassthrough{}
		device.Key, device.Backing = int32(-200-i), backing
		config.DeviceChange = append(config.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: device,
		})
	}
	for i, name := range spec.Networks {
		card := &types.VirtualVmxnet3{}
		card.Key = int32(-300 - i)
		card.Backing = &types.VirtualEthernetCardNetworkBackingInfo{
			VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: name},
		}
		config.DeviceChange = append(config.DeviceChange, &types.VirtualDeviceConfigSpec{
			Operation: types.VirtualDeviceConfigSpecOperationAdd, Device: card,
		})
	}
	return &types.CreateVM_Task{This: folder, Config: config, Pool: c.pool(host), Host: &host.system.Self}, nil
}

func (c *Center) backings(host *Host, spec VMSpec) []types.BaseVirtualDeviceBackingInfo {
	var found []types.BaseVirtualDeviceBackingInfo
	for _, name := range spec.VGPUs {
		found = append(found, &types.VirtualPCIPassthroughVmiopBackingInfo{Vgpu: name})
	}
	for _, pci := range spec.Passthrough {
		backing := &types.VirtualPCIPassthroughDeviceBackingInfo{Id: pci, SystemId: host.system.Self.Value}
		if device := host.device(pci); device != nil {
			backing.DeviceId, backing.VendorId = fmt.Sprintf("%04x", uint16(device.DeviceId)), device.VendorId
			backing.DeviceName = device.DeviceName
		}
		found = append(found, backing)
	}
	for _, model := range spec.Dynamic {
		id := int32(0)
		if known := c.models[model]; known != nil {
			id = int32(known.DeviceID)
		}
		found = append(found, &types.VirtualPCIPassthroughDynamicBackingInfo{
			AllowedDevice: []types.VirtualPCIPassthroughAllowedDevice{{VendorId: nvidia, DeviceId: id}},
		})
	}
	return found
}

// folder finds a folder of VMs by its name, or makes it; "" is the data centre's own.
func (c *Center) folder(name string) (types.ManagedObjectReference, error) {
	root := c.registry.Any("Datacenter").(*simulator.Datacenter).VmFolder
	if name == "" {
		return root, nil
	}
	folder := c.registry.Get(root).(*simulator.Folder)
	if found := c.registry.FindByName(name, folder.ChildEntity); found != nil {
		return found.Reference(), nil
	}
	res, err := methods.CreateFolder(c.background(), c.service, &types.CreateFolder{This: root, Name: name})
	if err != nil {
		return root, err
	}
	return res.Returnval, nil
}

// pool is the root resource pool of a host or its cluster.
func (c *Center) pool(host *Host) types.ManagedObjectReference {
	builder := Builder{center: c}
	return *builder.parent(host.system).ResourcePool
}
