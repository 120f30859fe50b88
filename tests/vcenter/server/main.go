// Command vcenter is the vCenter of the tests: the simulator of govmomi behind TLS with a user and a password.
//
// It reads its settings as one JSON value from standard input, says on standard output where it listens, and ends
// when standard input ends, so that it never outlives the process that started it.
package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

// Settings is what the launcher writes.
type Settings struct {
	User        string     `json:"user"`
	Password    string     `json:"password"`
	APIVersion  string     `json:"api_version"` // "" for the simulator's own
	Certificate string     `json:"certificate"` // good, expired, wrong-name
	Folder      string     `json:"folder"`      // ca.pem goes there
	Plain       *Plain     `json:"plain"`       // the unmodified simulator with such an inventory
	Inventory   *Inventory `json:"inventory"`   // the extended one with this inventory
}

// Plain counts what the unmodified simulator makes.
type Plain struct {
	Clusters        int `json:"clusters"`
	HostsPerCluster int `json:"hosts_per_cluster"`
	StandaloneHosts int `json:"standalone_hosts"`
	Datastores      int `json:"datastores"`
	VMs             int `json:"vms"` // for each cluster and each standalone host
}

// Ready is what the program says when it listens.
type Ready struct {
	Port        string `json:"port"`
	ControlPort string `json:"control_port"` // "" for the unmodified simulator
	CAFile      string `json:"ca_file"`
	Thumbprint  string `json:"thumbprint"` // SHA-256 of the server's certificate
	PID         int    `json:"pid"`
}

func main() {
	log.SetFlags(0)
	var settings Settings
	input := json.NewDecoder(os.Stdin)
	if err := input.Decode(&settings); err != nil {
		log.Fatalf("settings: %v", err)
	}
	certificate, err := newCertificate(settings.Folder, settings.Certificate)
	if err != nil {
		log.Fatalf("certificate: %v", err)
	}

	model, controlPort := simulator.VPX(), ""
	if settings.APIVersion != "" {
		model.ServiceContent.About.ApiVersion = settings.APIVersion
	}
	if settings.Plain != nil {
		err = createPlain(model, *settings.Plain)
	} else {
		err = createEmpty(model)
	}
	if err != nil {
		log.Fatalf("inventory: %v", err)
	}
	defer func() {
		model.Remove()
		_ = os.RemoveAll(settings.Folder) // the launcher does it too, unless it was killed
	}()
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS}, MinVersion: tls.VersionTLS12}
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(settings.User, settings.Password)}
	var center *Center
	if settings.Plain == nil {
		if center, err = newCenter(model, *settings.Inventory); err != nil {
			log.Fatalf("inventory: %v", err)
		}
	}
	server := model.Service.NewServer()
	if center != nil {
		if controlPort, err = center.serve(server); err != nil {
			log.Fatalf("control port: %v", err)
		}
	}
	ready := Ready{server.URL.Port(), controlPort, certificate.CAFile, certificate.Thumbprint, os.Getpid()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		log.Fatal(err)
	}
	waitForEnd(io.MultiReader(input.Buffered(), os.Stdin))
}

// waitForEnd returns when the launcher is gone or sends a signal.
func waitForEnd(input io.Reader) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, input)
		end <- syscall.SIGTERM
	}()
	<-end
}

// createPlain makes the inventory of the unmodified simulator; nothing of this module stays in it.
func createPlain(model *simulator.Model, plain Plain) error {
	model.Cluster, model.ClusterHost, model.Host = plain.Clusters, plain.HostsPerCluster, plain.StandaloneHosts
	model.Datastore, model.Machine = plain.Datastores, plain.VMs
	return model.Create()
}

// createEmpty makes a data centre with nothing in it.
func createEmpty(model *simulator.Model) error {
	model.Cluster, model.ClusterHost, model.Host, model.Datastore, model.Machine, model.Portgroup = 0, 0, 0, 0, 0, 0
	return model.Create()
}
