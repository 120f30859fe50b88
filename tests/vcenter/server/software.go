package main

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// ImageManager knows the VIBs of a host.
type ImageManager struct {
	mo.HostImageConfigManager
	host *Host
}

// VIBSpec describes a VIB.
type VIBSpec struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Vendor  string `json:"vendor"`
}

// FetchSoftwarePackages lists the VIBs.
func (m *ImageManager) FetchSoftwarePackages(_ *simulator.Context, _ *types.FetchSoftwarePackages) soap.HasFault {
	body := &methods.FetchSoftwarePackagesBody{Res: &types.FetchSoftwarePackagesResponse{}}
	for _, vib := range append([]VIBSpec{{"esx-base", m.host.ESXi + "-0.0.22380479", "VMware"}}, m.host.VIBs...) {
		body.Res.Returnval = append(body.Res.Returnval, types.SoftwarePackage{
			Name: vib.Name, Version: vib.Version, Vendor: vib.Vendor, Type: "bootbank", AcceptanceLevel: "vmware_certified",
		})
	}
	return body
}
