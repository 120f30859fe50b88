// Package gpu knows what NVIDIA's driver and ESXi's GPU manager allow on the GPUs of a host, and nothing of vSphere's API.
package gpu

// Modes of a GPU.
const (
	TimeSliced  = "vgpu"        // shared direct, one frame buffer size
	MixedSize   = "vgpu-mixed"  // shared direct, listed placements
	MIG         = "mig"         // shared direct, GPU instances
	Shared      = "shared"      // the driver is installed, the host is not prepared
	Passthrough = "passthrough" // taken away from the driver
)

// Model is what the catalogue says about a GPU.
type Model struct {
	Name            string  `json:"name"`
	DeviceName      string  `json:"device_name"`
	DeviceID        int     `json:"device_id"`
	MemoryMiB       int     `json:"memory_mib"`
	MIGNeedsReboot  bool    `json:"mig_needs_reboot"`
	MIGSurvivesBoot bool    `json:"mig_survives_boot"`
	Types           []*Type `json:"types"`
	MIG             *Cut    `json:"mig"`
	Mixed           *Cut    `json:"mixed"`
}

// Type is a vGPU type under the name that ESXi gives it.
type Type struct {
	Name           string `json:"name"`
	Series         string `json:"series"`
	FrameBufferMiB int    `json:"frame_buffer_mib"`
	Max            int    `json:"max"`
	MaxMixed       int    `json:"max_mixed"`    // 0: not in mixed-size mode
	Profile        string `json:"profile"`      // of the GPU instance it sits on; "" for time-sliced
	PerInstance    int    `json:"per_instance"` // vGPUs in one GPU instance
}

// Compute says whether the type is of the compute series, which shares no GPU with the others.
func (t *Type) Compute() bool { return t.Series == "C" }

// Cut is a way to cut a GPU: shapes with listed starts.
type Cut struct {
	Units  int            `json:"units"`
	Shapes []Shape        `json:"shapes"`
	Totals map[string]int `json:"totals"` // engines and numbers of instances
}

// Shape is a profile of MIG, or a frame buffer size of the mixed-size mode.
type Shape struct {
	Name   string         `json:"name"`
	Starts []int          `json:"starts"`
	Extent int            `json:"extent"`
	Max    int            `json:"max"`
	Uses   map[string]int `json:"uses"`
}

func (c *Cut) shape(name string) *Shape {
	for i := range c.Shapes {
		if c.Shapes[i].Name == name {
			return &c.Shapes[i]
		}
	}
	return nil
}

// Type returns the type of a name, or nil.
func (m *Model) Type(name string) *Type {
	for _, t := range m.Types {
		if t.Name == name {
			return t
		}
	}
	return nil
}
