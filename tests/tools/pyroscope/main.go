// Pulls profiles from an address with the code by which Pyroscope pulls, and prints what it stores: for each profile its name
// and unit, and its stacks with their values.
//
// Usage: pyroscope HOST:PORT SECONDS
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/pyroscope-io/pyroscope/pkg/ingestion"
	"github.com/pyroscope-io/pyroscope/pkg/scrape"
	"github.com/pyroscope-io/pyroscope/pkg/scrape/config"
	"github.com/pyroscope-io/pyroscope/pkg/scrape/discovery/targetgroup"
	"github.com/pyroscope-io/pyroscope/pkg/scrape/model"
	"github.com/pyroscope-io/pyroscope/pkg/storage"
)

// store parses what was pulled, as Pyroscope does, and sends what it would put into its database.
type store struct{ pulled chan string }

func (s store) Ingest(ctx context.Context, in *ingestion.IngestInput) error {
	var series seriesOfProfile
	if err := in.Profile.Parse(ctx, &series, nil, in.Metadata); err != nil {
		return err
	}
	s.pulled <- strings.Join(series, "\n")
	return nil
}

// seriesOfProfile are the parts of one profile: one for each name and set of labels, in no order.
type seriesOfProfile []string

func (s *seriesOfProfile) Put(_ context.Context, in *storage.PutInput) error {
	*s = append(*s, fmt.Sprintf("%s %s %d\n%s", in.Key.Normalized(), in.Units, in.Val.Samples(), in.Val.Collapsed()))
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pyroscope HOST:PORT SECONDS")
		os.Exit(2)
	}
	address, seconds := os.Args[1], os.Args[2]
	settings := config.DefaultConfig()
	settings.JobName = "vitals"
	settings.ScrapeInterval = 10 * time.Second
	settings.ScrapeTimeout = 60 * time.Second
	settings.EnabledProfiles = []string{"cpu", "mem"}
	settings.Profiles["cpu"].Path = "/ops/profile/cpu"
	settings.Profiles["cpu"].Params = url.Values{"seconds": {seconds}}
	settings.Profiles["mem"].Path = "/ops/profile/heap"

	logger := logrus.New()
	logger.SetLevel(logrus.DebugLevel)
	stored := store{pulled: make(chan string)}
	manager := scrape.NewManager(logger, stored, prometheus.NewRegistry())
	if err := manager.ApplyConfig([]*config.Config{settings}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- map[string][]*targetgroup.Group{"vitals": {{
		Targets: []model.LabelSet{{
			model.AddressLabel: model.LabelValue(address),
			model.AppNameLabel: "shop",
		}},
		Source: "0",
	}}}
	go func() { _ = manager.Run(targets) }()
	// One profile of each kind is printed.
	missing := []string{"shop.cpu{", "shop.inuse_objects{"}
	for len(missing) > 0 {
		profile := <-stored.pulled
		isIn := func(name string) bool { return strings.Contains(profile, name) }
		if at := slices.IndexFunc(missing, isIn); at >= 0 {
			missing = slices.Delete(missing, at, at+1)
			fmt.Println(profile)
		}
	}
}
