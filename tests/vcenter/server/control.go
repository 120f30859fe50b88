package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter/gpu"
)

// Command is what the control port is asked to do; each uses the fields that it needs.
type Command struct {
	Rule
	Name      string          `json:"name"`
	To        string          `json:"to"`
	Host      string          `json:"host"`
	GPU       int             `json:"gpu"`
	On        bool            `json:"on"`
	MS        int             `json:"ms"`
	Privilege []string        `json:"privileges"`
	VM        json.RawMessage `json:"vm"`
}

// serve puts the front before the simulator and opens the control port.
func (c *Center) serve(server *simulator.Server) (string, error) {
	server.Config.Handler = &Front{c, server.Config.Handler}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) {
		c.calls.mu.Lock()
		defer c.calls.mu.Unlock()
		reply(w, c.calls.calls)
	})
	mux.HandleFunc("GET /gpus", func(w http.ResponseWriter, r *http.Request) {
		cards, err := c.cards(r.URL.Query().Get("host"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, cards)
	})
	mux.HandleFunc("POST /{verb}", func(w http.ResponseWriter, r *http.Request) {
		var command Command
		if err := json.NewDecoder(r.Body).Decode(&command); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		result, err := c.do(r.PathValue("verb"), &command)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, result)
	})
	go func() { _ = http.Serve(listener, mux) }() //nolint:gosec // loopback, for tests
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, err
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

func (c *Center) do(verb string, command *Command) (any, error) {
	switch verb {
	case "fault":
		rule := command.Rule
		return nil, c.faults.add(&rule)
	case "clear_faults":
		c.faults.clear()
	case "delay":
		c.faults.mu.Lock()
		c.faults.delays[command.Method] = time.Duration(command.MS) * time.Millisecond
		c.faults.mu.Unlock()
	case "task_delay":
		c.faults.mu.Lock()
		c.faults.taskTime = time.Duration(command.MS) * time.Millisecond
		c.faults.mu.Unlock()
		simulator.TaskDelay.Delay = command.MS
		simulator.TaskDelay.MethodDelay = map[string]int{"LockHandoff": 0}
	case "clear_calls":
		c.calls.mu.Lock()
		c.calls.calls = nil
		c.calls.mu.Unlock()
	case "expire_sessions":
		return nil, c.expireSessions()
	case "restart":
		c.faults.mu.Lock()
		c.faults.down = time.Now().Add(time.Duration(command.MS) * time.Millisecond)
		c.faults.mu.Unlock()
		return nil, c.expireSessions()
	case "deny":
		c.mu.Lock()
		for _, privilege := range command.Privilege {
			c.denied[privilege] = true
		}
		c.mu.Unlock()
	case "fill_datastore":
		c.mu.Lock()
		c.full[command.Name] = command.On
		c.mu.Unlock()
	case "create_vm":
		var spec VMSpec
		if err := json.Unmarshal(command.VM, &spec); err != nil {
			return nil, err
		}
		return nil, c.makeVMs([]VMSpec{spec})
	case "disconnect_host", "reconnect_host", "maintenance", "reboot_host", "set_mig":
		host, err := c.hostByName(command.Host)
		if err != nil {
			return nil, err
		}
		return c.doHost(verb, host, command)
	case "delete_vm", "power_off", "rename_vm", "touch_vm":
		return nil, c.doVM(verb, command)
	default:
		return nil, fmt.Errorf("no call %q", verb)
	}
	return nil, nil
}

func (c *Center) doHost(verb string, host *Host, command *Command) (any, error) {
	switch verb {
	case "disconnect_host":
		c.setConnection(host.system, types.HostSystemConnectionStateNotResponding)
	case "reconnect_host":
		c.setConnection(host.system, types.HostSystemConnectionStateConnected)
	case "maintenance":
		c.setMaintenance(host.system, command.On)
	case "reboot_host":
		c.reboot(host)
	case "set_mig":
		c.mu.Lock()
		defer c.mu.Unlock()
		if command.GPU < 0 || command.GPU >= len(host.gpus.Cards) {
			return nil, fmt.Errorf("host %s has no GPU %d", host.Name, command.GPU)
		}
		said := host.gpus.Cards[command.GPU].SetMIG(command.On)
		c.publish(c.context(), host)
		return said, nil
	}
	return nil, nil
}

// doVM changes a VM through the API, as another administrator does.
func (c *Center) doVM(verb string, command *Command) error {
	vm := c.vmByName(command.Name)
	if vm == nil {
		return fmt.Errorf("no VM %q", command.Name)
	}
	ctx := c.background()
	if verb == "power_off" || verb == "delete_vm" {
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			res, err := methods.PowerOffVM_Task(ctx, c.service, &types.PowerOffVM_Task{This: vm.Self})
			if err := c.ended(res, err); err != nil {
				return err
			}
		}
		if verb == "power_off" {
			return nil
		}
		res, err := methods.Destroy_Task(ctx, c.service, &types.Destroy_Task{This: vm.Self})
		return c.ended(res, err)
	}
	spec := types.VirtualMachineConfigSpec{Annotation: "touched " + time.Now().String()}
	if verb == "rename_vm" {
		spec = types.VirtualMachineConfigSpec{Name: command.To}
	}
	res, err := methods.ReconfigVM_Task(ctx, c.service, &types.ReconfigVM_Task{This: vm.Self, Spec: spec})
	return c.ended(res, err)
}

// ended waits for the task of a response.
func (c *Center) ended(response any, err error) error {
	if err != nil {
		return err
	}
	var ref types.ManagedObjectReference
	switch r := response.(type) {
	case *types.PowerOffVM_TaskResponse:
		ref = r.Returnval
	case *types.Destroy_TaskResponse:
		ref = r.Returnval
	case *types.ReconfigVM_TaskResponse:
		ref = r.Returnval
	}
	if _, fault := c.await(ref); fault != nil {
		return errors.New(localized(fault).LocalizedMessage)
	}
	return nil
}

func (c *Center) vmByName(name string) *simulator.VirtualMachine {
	for _, entity := range c.registry.All("VirtualMachine") {
		if vm, is := entity.(*simulator.VirtualMachine); is && vm.Name == name {
			return vm
		}
	}
	return nil
}

// expireSessions ends the sessions of all clients.
func (c *Center) expireSessions() error {
	session := &simulator.Session{Registry: simulator.NewRegistry(), Map: c.registry}
	manager := session.Get(c.registry.SessionManager().Reference()).(*simulator.SessionManager)
	var ids []string
	for _, user := range manager.SessionList {
		if user.Key != "" {
			ids = append(ids, user.Key)
		}
	}
	request := &types.TerminateSession{This: manager.Reference(), SessionId: ids}
	_, err := methods.TerminateSession(c.background(), c.service, request)
	c.faults.endWaits()
	return err
}

// CardView is a GPU as the control port shows it.
type CardView struct {
	PCI   string    `json:"pci_id"`
	Model string    `json:"model"`
	Mode  string    `json:"mode"`
	Uses  []UseView `json:"uses"`
}

// UseView is a vGPU as the control port shows it.
type UseView struct {
	gpu.Use
	Name string `json:"name"` // of the VM
}

func (c *Center) cards(name string) ([]CardView, error) {
	host, err := c.hostByName(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := []CardView{}
	for _, card := range host.gpus.Cards {
		view := CardView{card.PCI, card.Model.Name, card.Mode(), []UseView{}}
		for _, use := range card.Uses {
			ref := types.ManagedObjectReference{Type: "VirtualMachine", Value: use.VM}
			called := use.VM
			if vm, is := c.registry.Get(ref).(*simulator.VirtualMachine); is {
				called = vm.Name
			}
			view.Uses = append(view.Uses, UseView{use, called})
		}
		found = append(found, view)
	}
	return found, nil
}

// background is the context of calls that this program makes.
func (c *Center) background() context.Context { return context.Background() }
