package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Rule is what shall go wrong with the calls of a method.
type Rule struct {
	Method  string          `json:"method"` // vim's name, * for any
	What    string          `json:"what"`   // call, task, drop before, drop after
	Fault   string          `json:"fault"`  // vim.fault.Name
	Message string          `json:"message"`
	Fields  json.RawMessage `json:"fields"`
	At      int             `json:"at"`    // strikes at the n-th call from now on
	Times   int             `json:"times"` // so often; 0 for ever
	seen    int
	struck  int
}

// Faults is all that shall go wrong.
type Faults struct {
	mu       sync.Mutex
	rules    []*Rule
	delays   map[string]time.Duration // by method
	taskTime time.Duration
	down     time.Time // connections are refused until then
	over     chan struct{}
}

// take counts a call and returns the rule that strikes at it.
func (f *Faults) take(method string, kinds ...string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found *Rule
	for _, rule := range f.rules {
		if rule.Method != "*" && rule.Method != method || !contains(kinds, rule.What) {
			continue
		}
		rule.seen++
		if found == nil && rule.seen >= rule.At && (rule.Times == 0 || rule.struck < rule.Times) {
			rule.struck++
			found = rule
		}
	}
	return found
}

func contains(kinds []string, kind string) bool {
	for _, other := range kinds {
		if other == kind {
			return true
		}
	}
	return false
}

// refuse returns the fault that a call shall meet, or nil.
func (f *Faults) refuse(method string) types.BaseMethodFault {
	if rule := f.take(method, "call"); rule != nil {
		fault, err := newFault(rule)
		if err != nil {
			return &types.SystemError{Reason: err.Error()}
		}
		return fault
	}
	return nil
}

func (f *Faults) add(rule *Rule) error {
	if rule.What == "call" || rule.What == "task" {
		if _, err := newFault(rule); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, rule)
	return nil
}

func (f *Faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

func (f *Faults) delay(method string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delays["*"] + f.delays[method]
}

func (f *Faults) taskDelay() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.taskTime
}

// sessionsEnd returns what is closed when all sessions end.
func (f *Faults) sessionsEnd() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

func (f *Faults) endWaits() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.over)
	f.over = make(chan struct{})
}

func (f *Faults) isDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.down)
}

var typeOf = types.TypeFunc()

// newFault makes a fault of a name, e.g. vim.fault.NoDiskSpace or vmodl.fault.SystemError, with its fields set.
func newFault(rule *Rule) (types.BaseMethodFault, error) {
	name := rule.Fault[strings.LastIndex(rule.Fault, ".")+1:]
	kind, known := typeOf(name)
	if !known {
		return nil, fmt.Errorf("no fault %q", rule.Fault)
	}
	fault, is := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !is {
		return nil, fmt.Errorf("%q is no fault", rule.Fault)
	}
	if len(rule.Fields) > 0 {
		if err := json.Unmarshal(rule.Fields, fault); err != nil {
			return nil, fmt.Errorf("fields of %q: %w", rule.Fault, err)
		}
	}
	if rule.Message != "" {
		fault.GetMethodFault().FaultMessage = []types.LocalizableMessage{{Key: "test", Message: rule.Message}}
	}
	return fault, nil
}

// typeName is the name of a fault's type.
func typeName(fault types.BaseMethodFault) string { return reflect.TypeOf(fault).Elem().Name() }
