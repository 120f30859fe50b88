package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// newCenter makes the inventory and sets the hooks.
func newCenter(model *simulator.Model, inventory Inventory) (*Center, error) {
	c := &Center{
		model: model, service: model.Service, registry: model.Service.Context.Map, models: inventory.Models,
		faults: &Faults{delays: map[string]time.Duration{}, over: make(chan struct{})}, calls: &Calls{},
		hosts: map[types.ManagedObjectReference]*Host{}, wishes: map[string]types.VirtualMachineConfigSpec{},
		full: map[string]bool{}, denied: map[string]bool{},
	}
	builder, err := newBuilder(c)
	if err != nil {
		return nil, err
	}
	for _, spec := range inventory.Hosts {
		if err := builder.addHost(spec); err != nil {
			return nil, fmt.Errorf("host %s: %w", spec.Name, err)
		}
	}
	builder.sumUp()
	c.registry.Handler = c.answer
	c.registry.AddHandler(c)
	if err := c.makeVMs(inventory.VMs); err != nil {
		return nil, err
	}
	for _, host := range c.order { // last, so that VMs could be made there
		if host.Maintenance {
			c.setMaintenance(host.system, true)
		}
		if !host.Connected {
			c.setConnection(host.system, types.HostSystemConnectionStateNotResponding)
		}
	}
	return c, nil
}

// Builder makes hosts.
type Builder struct {
	center   *Center
	client   *vim25.Client
	folders  *object.DatacenterFolders
	clusters map[string]*object.ClusterComputeResource
	folder   string // of the datastores' files
	networks map[string]types.ManagedObjectReference
}

func newBuilder(c *Center) (*Builder, error) {
	ctx := c.background()
	client, err := vim25.NewClient(ctx, c.service)
	if err != nil {
		return nil, err
	}
	finder := find.NewFinder(client, false)
	datacenter, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return nil, err
	}
	folders, err := datacenter.Folders(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "datastores-")
	if err != nil {
		return nil, err
	}
	b := &Builder{c, client, folders, map[string]*object.ClusterComputeResource{}, folder, map[string]types.ManagedObjectReference{}}
	for _, ref := range c.registry.AllReference("Network") {
		b.networks[ref.(*mo.Network).Name] = ref.Reference()
	}
	return b, nil
}

func (b *Builder) addHost(spec HostSpec) error {
	ctx := b.center.background()
	system, err := b.connect(ctx, spec)
	if err != nil {
		return err
	}
	host := &Host{HostSpec: spec, system: system, memoryMB: map[string]int64{}}
	if err := host.furnish(b.center.models); err != nil {
		return err
	}
	b.center.hosts[system.Self] = host
	b.center.order = append(b.center.order, host)
	for _, name := range spec.Datastores {
		if err := b.addDatastore(ctx, system, name); err != nil {
			return err
		}
	}
	system.Network = nil
	for _, name := range spec.Networks {
		system.Network = append(system.Network, b.network(name))
	}
	host.graphics = &GraphicsManager{center: b.center, host: host}
	host.graphics.Self = types.ManagedObjectReference{Type: "HostGraphicsManager", Value: "graphicsManager-" + system.Self.Value}
	host.passthru = &PassthruSystem{center: b.center, host: host}
	host.passthru.Self = types.ManagedObjectReference{Type: "HostPciPassthruSystem", Value: "pciPassthruSystem-" + system.Self.Value}
	images := &ImageManager{host: host}
	images.Self = types.ManagedObjectReference{Type: "HostImageConfigManager", Value: "imageConfigManager-" + system.Self.Value}
	system.ConfigManager.ImageConfigManager = types.NewReference(b.center.registry.Put(images).Reference())
	graphics, passthru := b.center.registry.Put(host.graphics).Reference(), b.center.registry.Put(host.passthru).Reference()
	system.ConfigManager.GraphicsManager, system.ConfigManager.PciPassthruSystem = &graphics, &passthru
	b.center.publish(b.center.context(), host)
	return nil
}

// connect adds the host to its cluster, which is made with its first host, or as a host of its own.
func (b *Builder) connect(ctx context.Context, spec HostSpec) (*simulator.HostSystem, error) {
	connection := types.HostConnectSpec{HostName: spec.Name}
	if spec.Cluster == "" {
		res, err := methods.AddStandaloneHost_Task(ctx, b.center.service, &types.AddStandaloneHost_Task{
			This: b.folders.HostFolder.Reference(), Spec: connection, AddConnected: true,
		})
		if err != nil {
			return nil, err
		}
		if _, fault := b.center.await(res.Returnval); fault != nil {
			return nil, fmt.Errorf("%T", fault)
		}
		return b.findHost(spec.Name)
	}
	cluster, err := b.cluster(ctx, spec.Cluster)
	if err != nil {
		return nil, err
	}
	res, err := methods.AddHost_Task(ctx, b.center.service, &types.AddHost_Task{
		This: cluster.Reference(), Spec: connection, AsConnected: true,
	})
	if err != nil {
		return nil, err
	}
	if _, fault := b.center.await(res.Returnval); fault != nil {
		return nil, fmt.Errorf("%T", fault)
	}
	return b.findHost(spec.Name)
}

func (b *Builder) findHost(name string) (*simulator.HostSystem, error) {
	for _, entity := range b.center.registry.All("HostSystem") {
		if host, is := entity.(*simulator.HostSystem); is && host.Name == name {
			host.Runtime.ConnectionState = types.HostSystemConnectionStateConnected
			return host, nil
		}
	}
	return nil, fmt.Errorf("it was not made")
}

func (b *Builder) cluster(ctx context.Context, name string) (*object.ClusterComputeResource, error) {
	if found := b.clusters[name]; found != nil {
		return found, nil
	}
	on := types.NewBool(true)
	cluster, err := b.folders.HostFolder.CreateCluster(ctx, name, types.ClusterConfigSpecEx{
		DrsConfig: &types.ClusterDrsConfigInfo{Enabled: on, DefaultVmBehavior: types.DrsBehaviorPartiallyAutomated},
	})
	if err == nil {
		b.clusters[name] = cluster
	}
	return cluster, err
}

func (b *Builder) addDatastore(ctx context.Context, host *simulator.HostSystem, name string) error {
	path := b.folder + "/" + name
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	_, err := methods.CreateLocalDatastore(ctx, b.center.service, &types.CreateLocalDatastore{
		This: *host.ConfigManager.DatastoreSystem, Name: name, Path: path,
	})
	return err
}

func (b *Builder) network(name string) types.ManagedObjectReference {
	if ref, there := b.networks[name]; there {
		return ref
	}
	folder := b.center.registry.Get(b.folders.NetworkFolder.Reference()).(*simulator.Folder)
	network := &mo.Network{}
	network.Self = types.ManagedObjectReference{Type: "Network", Value: fmt.Sprintf("network-x%d", len(b.networks))}
	network.Entity().Name, network.Name = name, name
	network.Summary = &types.NetworkSummary{Network: &network.Self, Name: name, Accessible: true}
	b.center.registry.PutEntity(folder, network)
	folder.ChildEntity = append(folder.ChildEntity, network.Self)
	datacenter := b.center.registry.Any("Datacenter").(*simulator.Datacenter)
	datacenter.Network = append(datacenter.Network, network.Self)
	b.networks[name] = network.Self
	return network.Self
}

// sumUp gives clusters what their hosts have, and datastores room.
func (b *Builder) sumUp() {
	for _, host := range b.center.order {
		host.nameVersion()
		parent := b.parent(host.system)
		for _, network := range host.system.Network {
			if !slices.Contains(parent.Network, network) {
				parent.Network = append(slices.Clone(parent.Network), network)
			}
		}
		summary := parent.Summary.GetComputeResourceSummary()
		if parent.Host[0] == host.system.Self {
			summary.TotalCpu, summary.TotalMemory, summary.NumCpuCores, summary.NumCpuThreads = 0, 0, 0, 0
		}
		summary.TotalCpu += int32(host.Cores * hostMHz)
		summary.TotalMemory += int64(host.RAMGiB) << 30
		summary.NumCpuCores += int16(host.Cores)
		summary.NumCpuThreads += int16(host.Threads)
		summary.EffectiveCpu, summary.EffectiveMemory = summary.TotalCpu, summary.TotalMemory>>20
	}
	for _, entity := range b.center.registry.All("Datastore") {
		datastore := entity.(*simulator.Datastore)
		datastore.Summary.Capacity, datastore.Summary.FreeSpace = 1<<50, 1<<50
		datastore.Info.GetDatastoreInfo().FreeSpace = 1 << 50
	}
}

func (b *Builder) parent(host *simulator.HostSystem) *mo.ComputeResource {
	switch parent := b.center.registry.Get(*host.Parent).(type) {
	case *simulator.ClusterComputeResource:
		return &parent.ComputeResource
	case *mo.ComputeResource:
		return parent
	}
	panic("a host without a compute resource")
}
