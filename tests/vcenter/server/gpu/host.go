package gpu

import "slices"

// Host is the GPUs of a host and how its GPU manager chooses among them.
type Host struct {
	Cards       []*Card
	Consolidate bool // fill GPUs up; otherwise the GPU with the fewest VMs
}

// Want is what one device of a VM asks for.
type Want struct {
	Type    string       // a vGPU type
	PCI     string       // or one GPU, whole
	Devices map[int]bool // or any whole GPU with one of these PCI device ids
	Bound   func(*Card)  // told the GPU that it got
}

// Offers says whether a GPU of the host has a vGPU type, whatever its mode.
func (h *Host) Offers(name string) *Type {
	for _, card := range h.Cards {
		if t := card.Model.Type(name); t != nil {
			return t
		}
	}
	return nil
}

// Card returns the GPU at a PCI address, or nil.
func (h *Host) Card(pci string) *Card {
	for _, card := range h.Cards {
		if card.PCI == pci {
			return card
		}
	}
	return nil
}

// Claim gives a VM all that it wants, in order, or nothing.
func (h *Host) Claim(vm string, wants []Want) bool {
	for _, want := range wants {
		card, use, found := h.choose(want)
		if !found {
			h.Release(vm)
			return false
		}
		use.VM = vm
		card.Uses = append(card.Uses, use)
		if want.Bound != nil {
			want.Bound(card)
		}
	}
	return true
}

func (h *Host) choose(want Want) (*Card, Use, bool) {
	if want.Type == "" {
		for _, card := range h.Cards {
			asked := card.PCI == want.PCI || want.Devices[card.Model.DeviceID]
			if asked && card.Mode() == Passthrough && len(card.Uses) == 0 {
				return card, Use{Start: -1}, true
			}
		}
		return nil, Use{}, false
	}
	var best *Card
	var chosen Use
	for _, card := range h.Cards {
		t := card.Model.Type(want.Type)
		if t == nil {
			continue
		}
		use, fits := card.place(t)
		if !fits {
			continue
		}
		fuller := best != nil && card.machines() > best.machines()
		emptier := best != nil && card.machines() < best.machines()
		if best == nil || h.Consolidate && fuller || !h.Consolidate && emptier {
			best, chosen = card, use
		}
	}
	return best, chosen, best != nil
}

func (c *Card) machines() int {
	seen := map[string]bool{}
	for _, use := range c.Uses {
		seen[use.VM] = true
	}
	return len(seen)
}

// Release takes everything away from a VM and says whether it had something.
func (h *Host) Release(vm string) bool {
	had := false
	for _, card := range h.Cards {
		before := len(card.Uses)
		card.Uses = slices.DeleteFunc(card.Uses, func(use Use) bool { return use.VM == vm })
		had = had || len(card.Uses) < before
	}
	return had
}

// SetMIG changes MIG mode as nvidia-smi does: pending while the GPU is in use or where it needs a reboot.
func (c *Card) SetMIG(on bool) string {
	word := map[bool]string{true: "on", false: "off"}[on]
	switch {
	case c.Model.MIG == nil || c.Taken:
		return "not supported"
	case c.MIG == on:
		c.Pending = nil
		return word
	case c.Model.MIGNeedsReboot || len(c.Uses) > 0:
		c.Pending = &on
		return "pending " + word
	}
	c.MIG = on
	return word
}

// Reboot takes all instances away and makes a pending MIG mode active; MIG mode itself stays on some GPUs only.
func (h *Host) Reboot() {
	for _, card := range h.Cards {
		card.Uses = nil
		if card.Pending != nil {
			card.MIG, card.Pending = *card.Pending, nil
		} else {
			card.MIG = card.MIG && card.Model.MIGSurvivesBoot
		}
	}
}

// Board returns the first model of the host that has a vGPU type.
func (h *Host) Board(name string) *Model {
	for _, card := range h.Cards {
		if card.Model.Type(name) != nil {
			return card.Model
		}
	}
	return nil
}
