package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter/gpu"
)

// publish tells what the GPUs of a host are now, in the host's configuration and in its two managers; the caller holds
// the lock.
func (c *Center) publish(ctx *simulator.Context, host *Host) {
	info, offered, passthru := host.graphicsInfo(), host.offered(), host.passthruInfo()
	wanted := host.wanted
	wanted.DeviceType = slices.Clone(wanted.DeviceType)
	capabilities := make([]types.HostSharedGpuCapabilities, 0, len(offered))
	for _, name := range offered {
		capabilities = append(capabilities, types.HostSharedGpuCapabilities{Vgpu: name, SuspendSupported: true, MigrateSupported: true})
	}
	c.registry.AtomicUpdate(ctx, host.graphics, []types.PropertyChange{
		{Name: "graphicsInfo", Val: info}, {Name: "graphicsConfig", Val: wanted},
		{Name: "sharedPassthruGpuTypes", Val: offered}, {Name: "sharedGpuCapabilities", Val: capabilities},
	})
	c.registry.AtomicUpdate(ctx, host.passthru, []types.PropertyChange{{Name: "pciPassthruInfo", Val: passthru}})
	c.registry.AtomicUpdate(ctx, host.system, []types.PropertyChange{
		{Name: "config.graphicsInfo", Val: info}, {Name: "config.graphicsConfig", Val: wanted},
		{Name: "config.sharedPassthruGpuTypes", Val: offered}, {Name: "config.sharedGpuCapabilities", Val: capabilities},
		{Name: "config.pciPassthruInfo", Val: passthru}, {Name: "config.assignableHardwareBinding", Val: host.bindings()},
	})
}

func (h *Host) graphicsInfo() []types.HostGraphicsInfo {
	found := []types.HostGraphicsInfo{}
	for _, card := range h.gpus.Cards {
		info := types.HostGraphicsInfo{
			DeviceName: card.Model.DeviceName, VendorName: "NVIDIA Corporation", PciId: card.PCI, VgpuMode: "none",
			GraphicsType:   map[string]string{gpu.Passthrough: "direct", gpu.Shared: "shared"}[card.Mode()],
			MemorySizeInKB: int64(card.Model.MemoryMiB) * 1024,
		}
		if info.GraphicsType == "" {
			info.GraphicsType = direct
			info.VgpuMode = map[string]string{gpu.TimeSliced: "sameSize", gpu.MixedSize: "mixedSize"}[card.Mode()]
		}
		if card.MIG && !card.Taken {
			info.VgpuMode = "multiInstanceGpu"
		}
		seen := map[string]bool{}
		for _, use := range card.Uses {
			if !seen[use.VM] {
				seen[use.VM] = true
				info.Vm = append(info.Vm, types.ManagedObjectReference{Type: "VirtualMachine", Value: use.VM})
			}
		}
		found = append(found, info)
	}
	return found
}

// bindings says which VM has hardware of this host; the instance is the PCI address.
func (h *Host) bindings() []types.HostAssignableHardwareBinding {
	found := []types.HostAssignableHardwareBinding{}
	for _, card := range h.gpus.Cards {
		for _, use := range card.Uses {
			found = append(found, types.HostAssignableHardwareBinding{
				InstanceId: card.PCI, Vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: use.VM},
			})
		}
	}
	return found
}

// offered lists the vGPU types that GPUs of the host can give in the mode that they are in.
func (h *Host) offered() []string {
	names := map[string]bool{}
	for _, card := range h.gpus.Cards {
		mode := card.Mode()
		for _, kind := range card.Model.Types {
			timeSliced := kind.Profile == "" && (mode == gpu.TimeSliced || mode == gpu.MixedSize && kind.MaxMixed > 0)
			if timeSliced || kind.Profile != "" && mode == gpu.MIG {
				names[kind.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (h *Host) passthruInfo() []types.BaseHostPciPassthruInfo {
	found := []types.BaseHostPciPassthruInfo{}
	for _, device := range h.devices {
		found = append(found, &types.HostPciPassthruInfo{
			Id: device.Id, DependentDevice: device.Id, PassthruEnabled: device.Enabled,
			PassthruCapable: device.Capable, PassthruActive: device.Active,
		})
	}
	return found
}

// target says what QueryConfigTarget says about the GPUs of a host; the caller holds the lock.
func (h *Host) target(target *types.ConfigTarget) {
	system := "host-" + strings.TrimPrefix(h.system.Self.Value, "host-")
	offered := h.offered()
	boards := map[string]bool{}
	for _, card := range h.gpus.Cards {
		model := card.Model
		vendor := int64(model.DeviceID)<<16 | nvidia
		if boards[model.Name] || card.Taken || !card.Direct {
			continue
		}
		boards[model.Name] = true
		device := types.VirtualMachineVgpuDeviceInfo{
			DeviceName: model.DeviceName, DeviceVendorId: vendor, MaxFbSizeInGib: int64(model.MemoryMiB / 1024),
			TimeSlicedCapable: true, MigCapable: model.MIG != nil,
		}
		for _, kind := range model.Types {
			device.ComputeProfileCapable = device.ComputeProfileCapable || kind.Compute()
			device.QuadroProfileCapable = device.QuadroProfileCapable || kind.Series == "Q"
			if slices.Contains(offered, kind.Name) {
				target.VgpuProfileInfo = append(target.VgpuProfileInfo, profileInfo(kind, vendor))
			}
		}
		target.VgpuDeviceInfo = append(target.VgpuDeviceInfo, device)
	}
	for _, name := range offered {
		entry := types.VirtualMachinePciSharedGpuPassthroughInfo{Vgpu: name}
		entry.Name = name
		target.SharedGpuPassthroughTypes = append(target.SharedGpuPassthroughTypes, entry)
	}
	dynamic := map[string]bool{}
	for _, device := range h.devices {
		entry := &types.VirtualMachinePciPassthroughInfo{PciDevice: device.HostPciDevice, SystemId: system}
		entry.Name = device.DeviceName
		target.PciPassthrough = append(target.PciPassthrough, entry)
		key := fmt.Sprint(device.VendorId, device.DeviceId)
		if device.Active && !dynamic[key] {
			dynamic[key] = true
			target.DynamicPassthrough = append(target.DynamicPassthrough, types.VirtualMachineDynamicPassthroughInfo{
				VendorName: device.VendorName, DeviceName: device.DeviceName,
				VendorId: int32(uint16(device.VendorId)), DeviceId: int32(uint16(device.DeviceId)),
			})
		}
	}
	target.NumNumaNodes = int32(h.NUMANodes)
}

func profileInfo(kind *gpu.Type, vendor int64) types.VirtualMachineVgpuProfileInfo {
	info := types.VirtualMachineVgpuProfileInfo{
		ProfileName: kind.Name, DeviceVendorId: vendor, FbSizeInGib: int64((kind.FrameBufferMiB + 512) / 1024),
		ProfileSharing: "timeSliced", ProfileClass: "quadro",
	}
	if kind.Profile != "" {
		info.ProfileSharing = "mig"
	}
	if kind.Compute() {
		info.ProfileClass = "compute"
	}
	info.Name = kind.Name
	return info
}
