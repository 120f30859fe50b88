package gpu

import "strconv"

// Use is a vGPU, or the whole GPU, in the hands of a VM.
type Use struct {
	VM    string `json:"vm"`    // managed object id
	Type  string `json:"type"`  // vGPU type, "" for passthrough
	Shape string `json:"shape"` // GPU instance profile, or frame buffer size in mixed-size mode
	Start int    `json:"start"` // of the shape; -1 where there are no places
	kind  *Type
}

// Card is a physical GPU.
type Card struct {
	Model   *Model
	PCI     string
	Direct  bool  // shared direct is active
	Mixed   bool  // time-sliced vGPUs of mixed sizes
	MIG     bool  // MIG mode
	Pending *bool // MIG mode after the next reboot
	Taken   bool  // passthrough is active
	Uses    []Use
}

// Mode says what the GPU can be used for now.
func (c *Card) Mode() string {
	switch {
	case c.Taken:
		return Passthrough
	case !c.Direct:
		return Shared
	case c.MIG:
		return MIG
	case c.Mixed:
		return MixedSize
	}
	return TimeSliced
}

// place says where the driver would put a vGPU of a type.
func (c *Card) place(t *Type) (Use, bool) {
	switch {
	case c.Model.Type(t.Name) == nil:
		return Use{}, false
	case c.Mode() == TimeSliced && t.Profile == "":
		return c.placeTimeSliced(t)
	case c.Mode() == MixedSize && t.Profile == "" && t.MaxMixed > 0:
		return c.placeMixed(t)
	case c.Mode() == MIG && t.Profile != "":
		return c.placeInstance(t)
	}
	return Use{}, false
}

// placeTimeSliced: all vGPUs on one GPU have one frame buffer size, and C does not mix with the other series.
func (c *Card) placeTimeSliced(t *Type) (Use, bool) {
	most := t.Max
	for _, use := range c.Uses {
		if use.kind.FrameBufferMiB != t.FrameBufferMiB || use.kind.Compute() != t.Compute() {
			return Use{}, false
		}
		most = min(most, use.kind.Max)
	}
	return Use{Type: t.Name, Start: -1, kind: t}, len(c.Uses) < most
}

func (c *Card) placeMixed(t *Type) (Use, bool) {
	same := 0
	for _, use := range c.Uses {
		if use.kind.Compute() != t.Compute() {
			return Use{}, false
		}
		if use.kind == t {
			same++
		}
	}
	shape := c.Model.Mixed.shape(strconv.Itoa(t.FrameBufferMiB))
	if shape == nil || same >= t.MaxMixed {
		return Use{}, false
	}
	start, found := c.start(c.Model.Mixed, shape, c.Uses)
	return Use{Type: t.Name, Shape: shape.Name, Start: start, kind: t}, found
}

// placeInstance takes room in a GPU instance of the same type, or makes an instance.
func (c *Card) placeInstance(t *Type) (Use, bool) {
	shape := c.Model.MIG.shape(t.Profile)
	if shape == nil {
		return Use{}, false
	}
	inside := map[int]int{}
	for _, use := range c.Uses {
		if use.kind == t {
			inside[use.Start]++
		}
	}
	for _, start := range shape.Starts {
		if n := inside[start]; n > 0 && n < t.PerInstance {
			return Use{Type: t.Name, Shape: shape.Name, Start: start, kind: t}, true
		}
	}
	instances := c.instances()
	if !within(c.Model.MIG, shape, instances) {
		return Use{}, false
	}
	start, found := c.start(c.Model.MIG, shape, instances)
	return Use{Type: t.Name, Shape: shape.Name, Start: start, kind: t}, found
}

// instances returns one use for each GPU instance.
func (c *Card) instances() []Use {
	var found []Use
	seen := map[int]bool{}
	for _, use := range c.Uses {
		if !seen[use.Start] {
			seen[use.Start] = true
			found = append(found, use)
		}
	}
	return found
}

// within says whether the totals of the GPU leave room for one more instance of a shape.
func within(cut *Cut, shape *Shape, instances []Use) bool {
	used := map[string]int{}
	for _, use := range instances {
		for name, amount := range cut.shape(use.Shape).Uses {
			used[name] += amount
		}
	}
	for name, amount := range shape.Uses {
		if total, bounded := cut.Totals[name]; bounded && used[name]+amount > total {
			return false
		}
	}
	return true
}

// start is the driver's choice: the free start that takes away the fewest free placements, the lowest of equals.
func (c *Card) start(cut *Cut, shape *Shape, taken []Use) (int, bool) {
	busy, same := make([]bool, cut.Units), 0
	for _, use := range taken {
		other := cut.shape(use.Shape)
		for unit := use.Start; unit < use.Start+other.Extent && unit < cut.Units; unit++ {
			busy[unit] = true
		}
		if other == shape {
			same++
		}
	}
	if same >= shape.Max {
		return -1, false
	}
	best, fewest := -1, 0
	for _, start := range shape.Starts {
		if !free(busy, start, shape.Extent) {
			continue
		}
		if lost := lostBy(cut, busy, start, shape.Extent); best < 0 || lost < fewest {
			best, fewest = start, lost
		}
	}
	return best, best >= 0
}

func free(busy []bool, start, extent int) bool {
	for unit := start; unit < start+extent; unit++ {
		if unit < len(busy) && busy[unit] {
			return false
		}
	}
	return true
}

// lostBy counts the free placements that a placement would take away.
func lostBy(cut *Cut, busy []bool, start, extent int) int {
	lost := 0
	for i := range cut.Shapes {
		for _, other := range cut.Shapes[i].Starts {
			if other < start+extent && start < other+cut.Shapes[i].Extent && free(busy, other, cut.Shapes[i].Extent) {
				lost++
			}
		}
	}
	return lost
}
