package main

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// refuseByRule: a mandatory rule of the cluster keeps VMs on hosts, or away from them. DRS would look for another host;
// here the power-on fails.
func (c *Center) refuseByRule(vm *simulator.VirtualMachine) types.BaseMethodFault {
	host := c.host(*vm.Runtime.Host)
	cluster, is := c.registry.Get(*host.system.Parent).(*simulator.ClusterComputeResource)
	if !is {
		return nil
	}
	config, is := cluster.ConfigurationEx.(*types.ClusterConfigInfoEx)
	if !is {
		return nil
	}
	machines, hosts := map[string]bool{}, map[string]bool{} // groups with this VM, with its host
	for _, group := range config.Group {
		switch g := group.(type) {
		case *types.ClusterVmGroup:
			machines[g.Name] = slices.Contains(g.Vm, vm.Self)
		case *types.ClusterHostGroup:
			hosts[g.Name] = slices.Contains(g.Host, host.system.Self)
		}
	}
	for _, entry := range config.Rule {
		rule, is := entry.(*types.ClusterVmHostRuleInfo)
		if !is || !machines[rule.VmGroupName] || !yes(rule.Enabled) || !yes(rule.Mandatory) {
			continue
		}
		must, mustNot := rule.AffineHostGroupName, rule.AntiAffineHostGroupName
		if must != "" && !hosts[must] || mustNot != "" && hosts[mustNot] {
			return &types.VmHostAffinityRuleViolation{VmName: vm.Name, HostName: host.Name}
		}
	}
	return nil
}

func yes(flag *bool) bool { return flag != nil && *flag }
