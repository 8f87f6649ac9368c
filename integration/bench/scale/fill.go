package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The mesh.
const (
	services   = 1000
	perService = 200
	idcs       = 10

	fullPrefix  = "/ufc/v1"
	emptyPrefix = "/empty"
	otherPrefix = "/other" // nobody follows it
	probe       = "probe"  // a service of two instances, of which one at a time has a weight
	mostOps     = 128      // of a transaction
)

func nameOf(service int) string { return fmt.Sprintf("service-%04d", service) }

// addressOf is an address in 127.0.0.0/8, at which this process answers.
func (b *bench) addressOf(service, instance int) string {
	return fmt.Sprintf("127.%d.%d.%d:%s", 1+service/250, service%250, 1+instance, b.backends.port)
}

// putInstance writes one instance. Its number decides about its IDC and labels.
func putInstance(prefix, service, address string, number, weight int) clientv3.Op {
	return clientv3.OpPut(prefix+"/config/instances/"+service+"/"+address, fmt.Sprintf(
		`{"address":%q,"idc":"idc-%d","weight":%d,"labels":{"version":"v%d","zone":"z%d"},"state":"up"}`,
		address, number%idcs, weight, number%2, number%3))
}

// put writes an instance of the mesh with a weight.
func (b *bench) put(prefix string, service, instance, weight int) clientv3.Op {
	return putInstance(prefix, nameOf(service), b.addressOf(service, instance), instance, weight)
}

// switchProbe lets the probe's first or second instance be the one that is chosen.
func (b *bench) switchProbe(second bool) []clientv3.Op {
	weights := [2]int{100, 0}
	if second {
		weights = [2]int{0, 100}
	}
	return []clientv3.Op{
		putInstance(fullPrefix, probe, b.probeAddress(0), 0, weights[0]), putInstance(fullPrefix, probe, b.probeAddress(1), 0, weights[1]),
	}
}

func (b *bench) probeAddress(n int) string { return fmt.Sprintf("127.0.0.%d:%s", 2+n, b.backends.port) }

func serviceOps(name string) clientv3.Op {
	return clientv3.OpPut(fullPrefix+"/config/services/"+name, fmt.Sprintf(`{"kind":"Service","name":%q,"owner":"scale","level":3}`, name))
}

// topology puts the IDCs into two regions, whose callers stay at home for nine tenths.
func topology() clientv3.Op {
	value := `{"kind":"Topology","idcs":{`
	for n := range idcs {
		if n > 0 {
			value += ","
		}
		value += fmt.Sprintf(`"idc-%d":{"logical":"%s"}`, n, []string{"north", "south"}[n%2])
	}
	value += `},"routes":{"north":[{"to":"north","weight":90},{"to":"south","weight":10}],"south":[{"to":"south","weight":90},{"to":"north","weight":10}]}}`
	return clientv3.OpPut(fullPrefix+"/config/topology", value)
}

func newClient(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{"http://" + endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
}

// commit writes several keys at one revision.
func commit(client *clientv3.Client, ops ...clientv3.Op) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := client.Txn(ctx).Then(ops...).Commit()
	return err
}

// fill writes the mesh.
func (b *bench) fill() error {
	client, err := newClient(b.etcd.address)
	if err != nil {
		return err
	}
	defer client.Close()
	first := append(b.switchProbe(false), topology(), serviceOps(probe))
	if err := commit(client, first...); err != nil {
		return err
	}
	next := make(chan int)
	var writers sync.WaitGroup
	var failed sync.Map
	for range 8 {
		writers.Go(func() {
			for n := range next {
				if err := b.fillService(client, n); err != nil {
					failed.Store("", err)
				}
			}
		})
	}
	for n := range services {
		next <- n
	}
	close(next)
	writers.Wait()
	if err, any := failed.Load(""); any {
		return err.(error)
	}
	return nil
}

func (b *bench) fillService(client *clientv3.Client, service int) error {
	ops := []clientv3.Op{serviceOps(nameOf(service))}
	for i := range perService {
		ops = append(ops, b.put(fullPrefix, service, i, 100))
		if len(ops) == mostOps || i == perService-1 {
			if err := commit(client, ops...); err != nil {
				return err
			}
			ops = ops[:0]
		}
	}
	return nil
}
