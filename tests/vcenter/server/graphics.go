package main

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// GraphicsManager is the graphics manager of a host.
type GraphicsManager struct {
	mo.HostGraphicsManager
	center *Center
	host   *Host
}

// PassthruSystem is the PCI passthrough system of a host.
type PassthruSystem struct {
	mo.HostPciPassthruSystem
	center *Center
	host   *Host
}

const direct = string(types.HostGraphicsInfoGraphicsTypeSharedDirect)

// UpdateGraphicsConfig sets what is wanted; the type of a GPU changes with the next refresh, or reboot.
func (g *GraphicsManager) UpdateGraphicsConfig(ctx *simulator.Context, req *types.UpdateGraphicsConfig) soap.HasFault {
	body := &methods.UpdateGraphicsConfigBody{}
	running := g.center.running(g.host.system.Self)
	g.center.mu.Lock()
	defer g.center.mu.Unlock()
	if fault := g.refuse(&req.Config, running); fault != nil {
		body.Fault_ = simulator.Fault(localized(fault).LocalizedMessage, fault)
		return body
	}
	wanted := &g.host.wanted
	wanted.HostDefaultGraphicsType = req.Config.HostDefaultGraphicsType
	wanted.SharedPassthruAssignmentPolicy = req.Config.SharedPassthruAssignmentPolicy
	for _, device := range req.Config.DeviceType {
		i := slices.IndexFunc(wanted.DeviceType, func(d types.HostGraphicsConfigDeviceType) bool { return d.DeviceId == device.DeviceId })
		if device.VgpuMode == "" {
			device.VgpuMode = wanted.DeviceType[i].VgpuMode
		}
		wanted.DeviceType[i] = device
	}
	g.host.gpus.Consolidate = wanted.SharedPassthruAssignmentPolicy == string(types.HostGraphicsConfigSharedPassthruAssignmentPolicyConsolidation)
	g.center.publish(ctx, g.host)
	body.Res = &types.UpdateGraphicsConfigResponse{}
	return body
}

// refuse: unknown devices and words, and a change of type while VMs run on the host.
func (g *GraphicsManager) refuse(config *types.HostGraphicsConfig, running bool) types.BaseMethodFault {
	host := g.host
	known := []string{"shared", direct}
	if !slices.Contains(known, config.HostDefaultGraphicsType) ||
		!slices.Contains([]string{"performance", "consolidation"}, config.SharedPassthruAssignmentPolicy) {
		return &types.InvalidArgument{InvalidProperty: "config"}
	}
	for _, device := range config.DeviceType {
		i := slices.IndexFunc(host.wanted.DeviceType, func(d types.HostGraphicsConfigDeviceType) bool { return d.DeviceId == device.DeviceId })
		if i < 0 {
			return &types.NotFound{}
		}
		if !slices.Contains(known, device.GraphicsType) || !slices.Contains([]string{"", "sameSize", "mixedSize"}, device.VgpuMode) {
			return &types.InvalidArgument{InvalidProperty: "config.deviceType"}
		}
		card := host.gpus.Card(device.DeviceId)
		if device.VgpuMode == "mixedSize" && card.Model.Mixed == nil {
			return &types.PlatformConfigFault{Text: "The device " + device.DeviceId + " does not support vGPUs of mixed sizes."}
		}
		if (device.GraphicsType == direct) != card.Direct && running {
			return &types.PlatformConfigFault{Text: "Virtual machines run on the host; the graphics type of " + device.DeviceId + " cannot change."}
		}
		if device.VgpuMode != "" && (device.VgpuMode == "mixedSize") != card.Mixed && len(card.Uses) > 0 {
			return &types.PlatformConfigFault{Text: "The device " + device.DeviceId + " is in use; its vGPU mode cannot change."}
		}
	}
	return nil
}

// RefreshGraphicsManager makes what is wanted active, unless the host has to boot for it.
func (g *GraphicsManager) RefreshGraphicsManager(ctx *simulator.Context, _ *types.RefreshGraphicsManager) soap.HasFault {
	g.center.mu.Lock()
	defer g.center.mu.Unlock()
	if !g.host.NeedsReboot {
		g.host.activateGraphics()
		g.center.publish(ctx, g.host)
	}
	return &methods.RefreshGraphicsManagerBody{Res: &types.RefreshGraphicsManagerResponse{}}
}

// activateGraphics lets the GPUs be what is wanted; a GPU that is in use stays.
func (h *Host) activateGraphics() {
	for _, device := range h.wanted.DeviceType {
		if card := h.gpus.Card(device.DeviceId); len(card.Uses) == 0 {
			card.Direct, card.Mixed = device.GraphicsType == direct, device.VgpuMode == "mixedSize"
		}
	}
}

// UpdatePassthruConfig enables devices; they are active at once with applyNow, otherwise after the next reboot.
func (p *PassthruSystem) UpdatePassthruConfig(ctx *simulator.Context, req *types.UpdatePassthruConfig) soap.HasFault {
	body := &methods.UpdatePassthruConfigBody{}
	p.center.mu.Lock()
	defer p.center.mu.Unlock()
	for _, config := range req.Config {
		wanted := config.GetHostPciPassthruConfig()
		if fault := p.host.refusePassthrough(wanted); fault != nil {
			body.Fault_ = simulator.Fault(localized(fault).LocalizedMessage, fault)
			return body
		}
	}
	for _, config := range req.Config {
		wanted := config.GetHostPciPassthruConfig()
		device := p.host.device(wanted.Id)
		device.Enabled = wanted.PassthruEnabled
		if wanted.ApplyNow != nil && *wanted.ApplyNow {
			device.activate()
		}
	}
	p.center.publish(ctx, p.host)
	body.Res = &types.UpdatePassthruConfigResponse{}
	return body
}

func (h *Host) refusePassthrough(wanted *types.HostPciPassthruConfig) types.BaseMethodFault {
	device := h.device(wanted.Id)
	switch {
	case device == nil:
		return &types.NotFound{}
	case wanted.PassthruEnabled && !device.Capable:
		return &types.PlatformConfigFault{Text: "The device " + wanted.Id + " is not capable of passthrough."}
	case wanted.PassthruEnabled != device.Active && device.Card != nil && len(device.Card.Uses) > 0:
		return &types.PlatformConfigFault{Text: "The device " + wanted.Id + " is in use."}
	}
	return nil
}

// Refresh reads the devices again.
func (p *PassthruSystem) Refresh(_ *simulator.Context, _ *types.Refresh) soap.HasFault {
	return &methods.RefreshBody{Res: &types.RefreshResponse{}}
}

func (h *Host) activatePassthrough() {
	for _, device := range h.devices {
		device.activate()
	}
}

func (d *Device) activate() {
	d.Active = d.Enabled
	if d.Card != nil {
		d.Card.Taken = d.Active
	}
}

func (h *Host) device(pci string) *Device {
	for _, device := range h.devices {
		if device.Id == pci {
			return device
		}
	}
	return nil
}
