package main

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// messages are vCenter's words for the faults that the tests look at.
var messages = map[string]string{
	"InsufficientGraphicsResourcesFault": "The amount of graphics resource available in the parent resource pool is insufficient for the operation.",
	"InsufficientMemoryResourcesFault":   "The host does not have sufficient memory resources to satisfy the reservation.",
	"ConcurrentAccess":                   "The operation is not allowed because the object was changed by another operation.",
	"InvalidState":                       "The operation is not allowed in the current state.",
	"InvalidPowerState":                  "The attempted operation cannot be performed in the current state (Powered on).",
	"HostNotConnected":                   "Unable to communicate with the remote host, since it is disconnected.",
	"ResourceInUse":                      "The resource is in use.",
	"Timedout":                           "Operation timed out.",
	"RequestCanceled":                    "The task was canceled by a user.",
}

// localized puts vCenter's words to a fault.
func localized(fault types.BaseMethodFault) *types.LocalizedMethodFault {
	name := typeName(fault)
	text := messages[name]
	switch kind := fault.(type) {
	case *types.GenericVmConfigFault:
		text = kind.Reason
	case *types.PlatformConfigFault:
		text = kind.Text
	case *types.DuplicateName:
		text = fmt.Sprintf("The name '%s' already exists.", kind.Name)
	case *types.NoDiskSpace:
		text = fmt.Sprintf("Insufficient disk space on datastore '%s'.", kind.Datastore)
	}
	if said := fault.GetMethodFault(); said != nil && len(said.FaultMessage) > 0 && said.FaultMessage[0].Message != "" {
		text = said.FaultMessage[0].Message
	}
	if text == "" {
		text = "vim.fault." + name
	}
	return &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: text}
}

// run makes a task of this package, which unlike the simulator's holds no lock and gives its fault vCenter's words.
func (c *Center) run(entity mo.Reference, name string, work func(*simulator.Task) (types.AnyType, types.BaseMethodFault)) types.ManagedObjectReference {
	task := simulator.CreateTask(entity, name, work)
	task.Self = types.ManagedObjectReference{}
	task.Info.State = types.TaskInfoStateRunning
	task.Info.StartTime = types.NewTime(time.Now())
	ctx := c.context()
	ref := c.registry.Put(task).Reference()
	c.registry.AtomicUpdate(ctx, task, []types.PropertyChange{{Name: "info.key", Val: ref.Value}, {Name: "info.task", Val: ref}})
	go func() {
		time.Sleep(c.faults.taskDelay())
		result, fault := work(task)
		c.registry.WithLock(ctx, task, func() {
			if task.Info.State != types.TaskInfoStateRunning {
				return // cancelled
			}
			changes := []types.PropertyChange{
				{Name: "info.completeTime", Val: time.Now()},
				{Name: "info.result", Val: result},
				{Name: "info.state", Val: types.TaskInfoStateSuccess},
			}
			if fault != nil {
				changes[2].Val = types.TaskInfoStateError
				changes = append(changes, types.PropertyChange{Name: "info.error", Val: *localized(fault)})
			}
			c.registry.Update(ctx, task, changes)
		})
	}()
	return ref
}

// cancelled says whether somebody cancelled a task.
func (c *Center) cancelled(task *simulator.Task) bool {
	state := types.TaskInfoStateRunning
	c.registry.WithLock(c.context(), task, func() { state = task.Info.State })
	return state != types.TaskInfoStateRunning
}

// fail makes a task that ends with a fault.
func (c *Center) fail(entity mo.Reference, name string, fault types.BaseMethodFault) types.ManagedObjectReference {
	return c.run(entity, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) { return nil, fault })
}

// await waits for a task and returns how it ended.
func (c *Center) await(ref types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	task := c.registry.Get(ref).(*simulator.Task)
	for {
		var info types.TaskInfo
		c.registry.WithLock(c.context(), task, func() { info = task.Info })
		switch {
		case info.State == types.TaskInfoStateSuccess:
			return info.Result, nil
		case info.State == types.TaskInfoStateError:
			return nil, info.Error.Fault
		}
		time.Sleep(time.Millisecond)
	}
}

// context is one for what this program does by itself; locks are held in its name.
func (c *Center) context() *simulator.Context { return &simulator.Context{Map: c.registry} }
