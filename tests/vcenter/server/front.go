package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Call is one SOAP call, as the log has it.
type Call struct {
	Method  string  `json:"method"`
	Object  string  `json:"object"` // managed object id
	Outcome string  `json:"outcome"`
	Begin   float64 `json:"begin_ms"` // since the server's start
	MS      float64 `json:"ms"`
}

// Calls is the log.
type Calls struct {
	mu    sync.Mutex
	calls []Call
}

func (l *Calls) add(call Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call)
}

var started = time.Now()

var (
	bodyStart = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)
	thisStart = regexp.MustCompile(`<(?:\w+:)?_this[^>]*>([^<]*)<`)
	faultName = regexp.MustCompile(`<detail>\s*<(?:\w+:)?(\w+)Fault\b`)
)

// Front stands before the simulator: it counts, delays and breaks what comes over the network.
type Front struct {
	center *Center
	next   http.Handler
}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.center.faults.isDown() {
		hangUp(w)
		return
	}
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/sdk") {
		f.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	call := Call{Method: first(bodyStart, body), Object: first(thisStart, body), Outcome: "ok"}
	begin := time.Now()
	defer func() {
		call.Begin = float64(begin.Sub(started).Microseconds()) / 1000
		call.MS = float64(time.Since(begin).Microseconds()) / 1000
		f.center.calls.add(call)
	}()
	time.Sleep(f.center.faults.delay(call.Method))
	rule := f.center.faults.take(call.Method, "task", "drop before", "drop after")
	switch {
	case rule == nil && call.Method == "WaitForUpdatesEx":
		call.Outcome = f.wait(w, r)
	case rule == nil:
		answer := &watcher{ResponseWriter: w}
		f.next.ServeHTTP(answer, r)
		call.Outcome = answer.outcome()
	case rule.What == "drop before":
		call.Outcome = rule.What
		hangUp(w)
	case rule.What == "drop after":
		call.Outcome = rule.What
		f.next.ServeHTTP(httptest.NewRecorder(), r)
		hangUp(w)
	default:
		call.Outcome = "task " + rule.Fault
		f.answerWithTask(w, call, rule)
	}
}

// wait answers a call that may take for ever, unless its session ends before.
func (f *Front) wait(w http.ResponseWriter, r *http.Request) string {
	answer, done, over := httptest.NewRecorder(), make(chan struct{}), f.center.faults.sessionsEnd()
	go func() {
		f.next.ServeHTTP(answer, r)
		close(done)
	}()
	select {
	case <-done:
	case <-over:
		if f.center.faults.isDown() {
			hangUp(w)
			return "restart"
		}
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, notAuthenticated)
		return "fault NotAuthenticated"
	}
	watched := &watcher{ResponseWriter: w}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	watched.WriteHeader(answer.Code)
	_, _ = watched.Write(answer.Body.Bytes())
	return watched.outcome()
}

const notAuthenticated = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>The session is not authenticated.</faultstring>
<detail><NotAuthenticatedFault xmlns="urn:vim25" xsi:type="NotAuthenticated"><object type="PropertyCollector">propertyCollector</object>
<privilegeId>System.View</privilegeId></NotAuthenticatedFault></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>
`

func first(pattern *regexp.Regexp, text []byte) string {
	if found := pattern.FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return ""
}

// answerWithTask answers any method that returns a task with one that ends with a fault.
func (f *Front) answerWithTask(w http.ResponseWriter, call Call, rule *Rule) {
	fault, err := newFault(rule)
	if err != nil {
		fault = &types.SystemError{Reason: err.Error()}
	}
	kind := first(regexp.MustCompile(`^(\w+)_Task`), []byte(call.Method))
	entity := types.ManagedObjectReference{Type: "Task", Value: call.Object}
	for _, object := range f.center.registry.AllReference("") {
		if object.Reference().Value == call.Object {
			entity = object.Reference()
		}
	}
	task := f.center.fail(entity, kind, fault)
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Body><%sResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval></%sResponse></soapenv:Body></soapenv:Envelope>
`, call.Method, task.Value, call.Method)
}

// hangUp breaks the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if connection, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = connection.Close()
	}
}

// watcher looks at an answer for the log.
type watcher struct {
	http.ResponseWriter
	status int
	fault  string
}

func (w *watcher) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *watcher) Write(text []byte) (int, error) {
	if w.status == http.StatusInternalServerError {
		w.fault = first(faultName, text)
	}
	return w.ResponseWriter.Write(text)
}

func (w *watcher) outcome() string {
	if w.status == http.StatusInternalServerError {
		return "fault " + w.fault
	}
	return "ok"
}
