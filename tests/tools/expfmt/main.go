// Reads an exposition from stdin with the parser of Prometheus' client for Go, and prints its families as JSON.
//
// The only argument is the content type that the exposition came with. It decides the format, and whether names in UTF-8
// are valid. The program fails where the parser does.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"math"
	"os"
	"strconv"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

type family struct {
	Name   string   `json:"name"`
	Type   string   `json:"type"`
	Series []series `json:"series"`
}

type series struct {
	Labels map[string]string `json:"labels"`
	// The value as text, since JSON has neither infinities nor NaN; of a histogram, its count.
	Value string `json:"value"`
	// The classic buckets of a histogram, without the infinite one.
	Buckets int `json:"buckets"`
	// The observations in native buckets.
	Native uint64 `json:"native"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: expfmt CONTENT_TYPE < exposition")
	}
	decoder := expfmt.NewDecoder(os.Stdin, expfmt.Format(os.Args[1]))
	families := []family{}
	for {
		var read dto.MetricFamily
		err := decoder.Decode(&read)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		families = append(families, describe(&read))
	}
	if err := json.NewEncoder(os.Stdout).Encode(families); err != nil {
		log.Fatal(err)
	}
}

func describe(read *dto.MetricFamily) family {
	described := family{Name: read.GetName(), Type: read.GetType().String(), Series: []series{}}
	for _, metric := range read.GetMetric() {
		one := series{Labels: map[string]string{}}
		for _, label := range metric.GetLabel() {
			one.Labels[label.GetName()] = label.GetValue()
		}
		switch {
		case metric.Counter != nil:
			one.Value = float(metric.Counter.GetValue())
		case metric.Gauge != nil:
			one.Value = float(metric.Gauge.GetValue())
		case metric.Untyped != nil:
			one.Value = float(metric.Untyped.GetValue())
		case metric.Summary != nil:
			one.Value = strconv.FormatUint(metric.Summary.GetSampleCount(), 10)
		case metric.Histogram != nil:
			histogram := metric.Histogram
			one.Value = strconv.FormatUint(histogram.GetSampleCount(), 10)
			one.Buckets = finite(histogram)
			one.Native = native(histogram)
		}
		described.Series = append(described.Series, one)
	}
	return described
}

func float(value float64) string {
	return strconv.FormatFloat(value, 'g', -1, 64)
}

func finite(histogram *dto.Histogram) int {
	count := 0
	for _, bucket := range histogram.GetBucket() {
		if !math.IsInf(bucket.GetUpperBound(), 1) {
			count++
		}
	}
	return count
}

func native(histogram *dto.Histogram) uint64 {
	sum, bucket := histogram.GetZeroCount(), int64(0)
	for _, delta := range histogram.GetPositiveDelta() {
		bucket += delta
		sum += uint64(bucket)
	}
	return sum
}
