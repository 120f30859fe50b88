package main

import (
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"vcenter/gpu"
)

const (
	nvidia  = 0x10de
	hostMHz = 2000
)

// furnish gives a host its hardware.
func (h *Host) furnish(models map[string]*gpu.Model) error {
	system := h.system
	hardware := *system.Hardware
	system.Hardware = &hardware
	sockets := max(1, h.NUMANodes)
	hardware.CpuInfo = types.HostCpuInfo{
		NumCpuPackages: int16(sockets), NumCpuCores: int16(h.Cores), NumCpuThreads: int16(h.Threads), Hz: hostMHz * 1_000_000,
	}
	hardware.MemorySize = int64(h.RAMGiB) << 30
	hardware.PciDevice = nil
	for _, spec := range h.GPUs {
		if err := h.addGPU(spec, models[spec.Model]); err != nil {
			return err
		}
	}
	for _, spec := range h.NICs {
		h.addNIC(spec)
	}
	for _, device := range h.devices {
		hardware.PciDevice = append(hardware.PciDevice, device.HostPciDevice)
	}
	hardware.NumaInfo = h.numa(sockets)
	system.Hardware = &hardware
	summary := system.Summary.Hardware
	summary.MemorySize, summary.NumCpuPkgs = hardware.MemorySize, int16(sockets)
	summary.NumCpuCores, summary.NumCpuThreads, summary.CpuMhz = int16(h.Cores), int16(h.Threads), hostMHz
	summary.Vendor, summary.Model, summary.NumNics = "Dell Inc.", "PowerEdge R750xa", int32(len(h.NICs))
	system.Capability.MaxSupportedVmMemory = int32(h.RAMGiB) * 1024
	h.wanted.HostDefaultGraphicsType = h.Default
	h.wanted.SharedPassthruAssignmentPolicy = h.Policy
	h.gpus.Consolidate = h.Policy == "consolidation"
	return nil
}

// nameVersion gives the host its version; last, because the simulator parses that of all hosts of a cluster with each new one.
func (h *Host) nameVersion() {
	system := h.system
	system.Config.Product.Version = h.ESXi
	system.Config.Product.FullName = "VMware ESXi " + h.ESXi
	product := system.Config.Product
	system.Summary.Config.Product = &product
}

func (h *Host) addGPU(spec GPUSpec, model *gpu.Model) error {
	if model == nil {
		return fmt.Errorf("no GPU model %q", spec.Model)
	}
	card := &gpu.Card{
		Model: model, PCI: spec.PCI, Taken: spec.Mode == gpu.Passthrough, MIG: spec.Mode == gpu.MIG,
		Direct: spec.Mode != gpu.Passthrough && spec.Mode != gpu.Shared, Mixed: spec.Mode == gpu.MixedSize,
	}
	if card.MIG && model.MIG == nil || card.Mixed && model.Mixed == nil {
		return fmt.Errorf("GPU %s has no mode %s", model.Name, spec.Mode)
	}
	h.gpus.Cards = append(h.gpus.Cards, card)
	device := types.HostPciDevice{
		ClassId: 0x0302, VendorId: nvidia, DeviceId: signed(model.DeviceID), SubVendorId: nvidia, SubDeviceId: signed(spec.Subsystem),
		VendorName: "NVIDIA Corporation", DeviceName: model.DeviceName, DeviceClassName: "3D controller",
	}
	h.addDevice(device, spec.PCI, &Device{NUMA: spec.NUMA, Capable: spec.Capable, Enabled: card.Taken, Active: card.Taken, Card: card})
	wanted := types.HostGraphicsConfigDeviceType{DeviceId: spec.PCI, GraphicsType: "shared", VgpuMode: "sameSize"}
	if card.Direct {
		wanted.GraphicsType = direct
	}
	if card.Mixed {
		wanted.VgpuMode = "mixedSize"
	}
	h.wanted.DeviceType = append(h.wanted.DeviceType, wanted)
	return nil
}

func (h *Host) addNIC(spec NICSpec) {
	device := types.HostPciDevice{
		ClassId: 0x0200, VendorId: signed(spec.VendorID), DeviceId: signed(spec.DeviceID), SubVendorId: signed(spec.VendorID),
		VendorName: "Mellanox Technologies", DeviceName: spec.Name, DeviceClassName: "Ethernet controller",
	}
	h.addDevice(device, spec.PCI, &Device{NUMA: spec.NUMA, Capable: true, Enabled: spec.Passthru, Active: spec.Passthru})
	h.system.Config.Network.Pnic = append(h.system.Config.Network.Pnic, types.PhysicalNic{
		Key: "key-vim.host.PhysicalNic-" + spec.PCI, Device: fmt.Sprintf("vmnic%d", 10+len(h.devices)), Pci: spec.PCI,
		Driver: "nmlx5_core", LinkSpeed: &types.PhysicalNicLinkInfo{SpeedMb: int32(spec.SpeedMb), Duplex: true},
	})
}

func (h *Host) addDevice(device types.HostPciDevice, pci string, rest *Device) {
	var domain, bus, slot, function int
	_, _ = fmt.Sscanf(pci, "%x:%x:%x.%x", &domain, &bus, &slot, &function)
	device.Id, device.Bus, device.Slot, device.Function = pci, byte(bus), byte(slot), byte(function)
	rest.HostPciDevice = device
	h.devices = append(h.devices, rest)
}

// numa spreads threads and memory evenly over the nodes.
func (h *Host) numa(nodes int) *types.HostNumaInfo {
	info := &types.HostNumaInfo{Type: "NUMA", NumNodes: int32(nodes)}
	memory := int64(h.RAMGiB) << 30 / int64(nodes)
	for n := range nodes {
		node := types.HostNumaNode{TypeId: byte(n), MemorySize: memory, MemoryRangeBegin: int64(n) * memory, MemoryRangeLength: memory}
		for cpu := n * h.Threads / nodes; cpu < (n+1)*h.Threads/nodes; cpu++ {
			node.CpuID = append(node.CpuID, int16(cpu))
		}
		for _, device := range h.devices {
			if device.NUMA == n {
				node.PciId = append(node.PciId, device.Id)
			}
		}
		info.NumaNode = append(info.NumaNode, node)
	}
	return info
}

// signed is how vim spells a PCI id: a short with a sign.
func signed(id int) int16 { return int16(uint16(id)) }
