// Command promhttp measures what a scrape takes through client_golang: the registry's Gather and the encoder of
// promhttp's handler, without a network and without compression.
//
// Usage: promhttp [SERIES...]        1000 and 10000 unless given
//
// The families are those of benches/exposition.rs. `native` is its histogram: three labels, eleven classic buckets and
// native ones of schema 5, and 200 observations for each series. `classic` is the same without native buckets, `counter` a
// counter with the same labels. One line of JSON for each number of series, family and format goes to stdout:
//
//	{"client":"client_golang 1.25.0","family":"native","format":"text","series":1000,"ns":…,"bytes":…,"allocs":…}
//
// `ns` is the time of a whole scrape, the median of several runs. Native buckets are written in protobuf alone, but
// client_golang gathers them for every format.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const runs = 3

var (
	labels  = []string{"method", "endpoint", "http_status"}
	buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
	formats = []struct{ name, accept, contentType string }{
		{"text", "text/plain;version=0.0.4", "text/plain; version=0.0.4"},
		{"OpenMetrics", "application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0"},
		{
			"protobuf",
			"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
			"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
		},
	}
)

type measurement struct {
	Client string `json:"client"`
	Family string `json:"family"`
	Format string `json:"format"`
	Series int    `json:"series"`
	Ns     int64  `json:"ns"`
	Bytes  int    `json:"bytes"`
	Allocs int64  `json:"allocs"`
}

func main() {
	// Without this, testing.Benchmark has no flag that says how long a run takes.
	testing.Init()
	counts := []int{1000, 10000}
	if len(os.Args) > 1 {
		counts = nil
		for _, argument := range os.Args[1:] {
			count, err := strconv.Atoi(argument)
			if err != nil || count < 1 {
				fail(fmt.Errorf("%q is no number of series, a whole number above 0", argument))
			}
			counts = append(counts, count)
		}
	}
	out := json.NewEncoder(os.Stdout)
	for _, count := range counts {
		for _, family := range []string{"counter", "classic", "native"} {
			handler := handlerOf(family, count)
			for _, format := range formats {
				measured, err := measure(handler, format.accept, format.contentType)
				if err != nil {
					fail(err)
				}
				measured.Client, measured.Family, measured.Format = client(), family, format.name
				measured.Series = count
				if err := out.Encode(measured); err != nil {
					fail(err)
				}
			}
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "promhttp:", err)
	os.Exit(1)
}

// client returns the name and version of what is measured, as it was linked.
func client() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/prometheus/client_golang" {
				return "client_golang " + strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "client_golang"
}

// latencies returns the observations of benches/exposition.rs: around 20 ms, log-normal.
func latencies() []float64 {
	var values []float64
	for i := 1; i <= 200; i++ {
		normal := -6.0
		for _, k := range []float64{2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19} {
			_, share := math.Modf(float64(i) * math.Sqrt(k))
			normal += share
		}
		values = append(values, 0.02*math.Exp(0.4*normal))
	}
	return values
}

func handlerOf(family string, count int) http.Handler {
	registry := prometheus.NewRegistry()
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "Requests.",
	}, labels)
	options := prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Durations of requests.", Buckets: buckets,
	}
	if family == "native" {
		// The factor of schema 5, 2^(2^-5).
		options.NativeHistogramBucketFactor = 1.0218971486541166
		options.NativeHistogramMaxBucketNumber = 160
	}
	durations := prometheus.NewHistogramVec(options, labels)
	observations := latencies()
	for n := range count {
		endpoint := fmt.Sprintf("/api/v1/resource/%06d/{item_id}", n)
		if family == "counter" {
			requests.WithLabelValues("GET", endpoint, "200").Add(float64(n * 7919 % 100000))
			continue
		}
		series := durations.WithLabelValues("GET", endpoint, "200")
		for _, observation := range observations {
			series.Observe(observation)
		}
	}
	if family == "counter" {
		registry.MustRegister(requests)
	} else {
		registry.MustRegister(durations)
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics:  true,
		DisableCompression: true,
	})
}

// sink takes an answer and keeps its length.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (sink *sink) Header() http.Header { return sink.header }

func (sink *sink) WriteHeader(status int) { sink.status = status }

func (sink *sink) Write(part []byte) (int, error) {
	sink.bytes += len(part)
	return len(part), nil
}

func measure(handler http.Handler, accept, contentType string) (measurement, error) {
	request, err := http.NewRequest(http.MethodGet, "/metrics", nil)
	if err != nil {
		return measurement{}, err
	}
	request.Header.Set("Accept", accept)
	scrape := func() *sink {
		taken := &sink{header: http.Header{}, status: http.StatusOK}
		handler.ServeHTTP(taken, request)
		return taken
	}
	first := scrape()
	if got := first.header.Get("Content-Type"); first.status != http.StatusOK || !strings.HasPrefix(got, contentType) {
		return measurement{}, fmt.Errorf("%s: status %d, Content-Type %q", accept, first.status, got)
	}
	var times, allocs []int64
	for range runs {
		result := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				scrape()
			}
		})
		if result.N == 0 {
			return measurement{}, fmt.Errorf("%s: the benchmark did not run", accept)
		}
		times, allocs = append(times, result.NsPerOp()), append(allocs, result.AllocsPerOp())
	}
	slices.Sort(times)
	slices.Sort(allocs)
	return measurement{Ns: times[runs/2], Bytes: first.bytes, Allocs: allocs[runs/2]}, nil
}
