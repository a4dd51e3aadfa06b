package daemon

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// newMetrics returns what serves GET /metrics, from a registry of d's own.
func (d *Daemon) newMetrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newVMMetrics(d),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: metricsLog{d.log}})
}

// serveMetrics serves GET /metrics.
func (d *Daemon) serveMetrics(w http.ResponseWriter, r *http.Request, _ query) error {
	d.metrics.ServeHTTP(w, r)
	return nil
}

// metricsLog takes what goes wrong with a scrape.
type metricsLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l metricsLog) Println(v ...any) {
	l.log.Error("metrics could not be served", "err", fmt.Sprint(v...))
}

// vmMetrics is a prometheus.Collector that counts d's VMs when it is asked.
type vmMetrics struct {
	d                                    *Daemon
	vms, booted, cpus, ramBytes, secrets *prometheus.Desc
}

func newVMMetrics(d *Daemon) *vmMetrics {
	group := []string{"hostgroup"}
	return &vmMetrics{
		d:        d,
		vms:      prometheus.NewDesc("slicer_vms", "VMs by host group and status.", []string{"hostgroup", "status"}, nil),
		booted:   prometheus.NewDesc("slicer_vms_booted_total", "VMs whose boot was begun since the daemon's start.", group, nil),
		cpus:     prometheus.NewDesc("slicer_vm_cpus", "Virtual CPUs of a host group's VMs.", group, nil),
		ramBytes: prometheus.NewDesc("slicer_vm_ram_bytes", "Memory of a host group's VMs, in bytes.", group, nil),
		secrets:  prometheus.NewDesc("slicer_secrets", "Secrets.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *vmMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *vmMetrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(m.secrets, int64(m.d.secrets.count()))

	type key struct{ group, status string }
	vms := make(map[key]int64)
	cpus, ramBytes := make(map[string]int64), make(map[string]int64)
	for _, v := range m.d.vms.list() {
		vms[key{v.group, v.state()}]++
		cpus[v.group] += int64(v.cpus)
		ramBytes[v.group] += v.ramBytes
	}
	for _, g := range m.d.groups {
		for _, status := range []string{statusRunning, statusPaused, statusSuspended, statusStopped} {
			gauge(m.vms, vms[key{g.Name, status}], g.Name, status)
		}
		gauge(m.cpus, cpus[g.Name], g.Name)
		gauge(m.ramBytes, ramBytes[g.Name], g.Name)
		ch <- prometheus.MustNewConstMetric(m.booted, prometheus.CounterValue, float64(m.d.vms.boots(g.Name)), g.Name)
	}
}
