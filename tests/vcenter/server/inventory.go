package main

import "vcenter/gpu"

// Inventory is what the launcher wants to be there.
type Inventory struct {
	Models map[string]*gpu.Model `json:"models"`
	Hosts  []HostSpec            `json:"hosts"`
	VMs    []VMSpec              `json:"vms"`
}

// HostSpec describes a host.
type HostSpec struct {
	Name        string    `json:"name"`
	Cluster     string    `json:"cluster"` // "" for a host of its own
	Cores       int       `json:"cores"`
	Threads     int       `json:"threads"`
	RAMGiB      int       `json:"ram_gib"`
	NUMANodes   int       `json:"numa_nodes"`
	ESXi        string    `json:"esxi"`
	Policy      string    `json:"policy"`
	Default     string    `json:"default_graphics"`
	Maintenance bool      `json:"maintenance"`
	Connected   bool      `json:"connected"`
	NeedsReboot bool      `json:"graphics_needs_reboot"`
	RebootMS    int       `json:"reboot_ms"`
	Datastores  []string  `json:"datastores"`
	Networks    []string  `json:"networks"`
	GPUs        []GPUSpec `json:"gpus"`
	NICs        []NICSpec `json:"nics"`
	VIBs        []VIBSpec `json:"vibs"`
}

// GPUSpec describes a GPU of a host.
type GPUSpec struct {
	Model     string `json:"model"`
	Mode      string `json:"mode"`
	PCI       string `json:"pci_id"`
	NUMA      int    `json:"numa_node"`
	Capable   bool   `json:"passthrough_capable"`
	Subsystem int    `json:"subsystem_id"`
}

// NICSpec describes a network adapter, as a PCI device and as a physical NIC.
type NICSpec struct {
	Name     string `json:"name"`
	PCI      string `json:"pci_id"`
	NUMA     int    `json:"numa_node"`
	VendorID int    `json:"vendor_id"`
	DeviceID int    `json:"device_id"`
	Passthru bool   `json:"passthrough"`
	SpeedMb  int    `json:"speed_mb"`
}

// VMSpec describes a VM that is there already.
type VMSpec struct {
	Name         string            `json:"name"`
	Host         string            `json:"host"`
	Folder       string            `json:"folder"`
	Datastore    string            `json:"datastore"`
	Networks     []string          `json:"networks"`
	VCPUs        int32             `json:"vcpus"`
	RAMGiB       int               `json:"ram_gib"`
	Reserved     bool              `json:"reserved"`
	PoweredOn    bool              `json:"powered_on"`
	VGPUs        []string          `json:"vgpus"`
	Passthrough  []string          `json:"passthrough"`
	Dynamic      []string          `json:"dynamic"`
	InstanceUUID string            `json:"instance_uuid"`
	ExtraConfig  map[string]string `json:"extra_config"`
}
