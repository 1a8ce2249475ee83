// Command kubernetes checks manifests without a cluster.
//
// Usage: kubernetes FILE...
//
// Each document is decoded into its published Go type, strictly, as the API server does with field validation: an unknown
// field, a duplicate one or a value of another type is an error. Then the objects are held to each other: selectors
// select the Deployment's pods, ports have names that its container has. The pods are held to the Pod Security Standard
// "restricted". The values inside the fields are not validated further: the API server does that.
//
// One line for each object goes to stdout, one for each error to stderr; with errors the exit code is 1.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kubernetes FILE...")
		os.Exit(2)
	}
	objects, failures := decodeFiles(os.Args[1:])
	failures = append(failures, checkTogether(objects)...)
	for _, failure := range failures {
		fmt.Fprintln(os.Stderr, failure)
	}
	if len(failures) > 0 {
		os.Exit(1)
	}
}

// decoder returns the strict decoder of the types that a manifest may have.
func decoder() (runtime.Decoder, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, disruption.AddToScheme, networking.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), nil
}

func decodeFiles(paths []string) ([]runtime.Object, []error) {
	strict, err := decoder()
	if err != nil {
		return nil, []error{err}
	}
	var objects []runtime.Object
	var failures []error
	for _, path := range paths {
		decoded, err := decodeFile(strict, path)
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", path, err))
		}
		objects = append(objects, decoded...)
	}
	return objects, failures
}

// decodeFile decodes each document of a file that is more than comments.
func decodeFile(strict runtime.Decoder, path string) ([]runtime.Object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	documents := yaml.NewYAMLReader(bufio.NewReader(file))
	var objects []runtime.Object
	var failures []error
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return objects, err
		}
		object, kind, err := strict.Decode(document, nil, nil)
		if err != nil {
			failures = append(failures, fmt.Errorf("document %d: %w", number, err))
			continue
		}
		objects = append(objects, object)
		fmt.Printf("%s %s/%s\n", kind.GroupVersion(), kind.Kind, nameOf(object))
	}
	if len(objects) == 0 && len(failures) == 0 {
		failures = append(failures, errors.New("no document"))
	}
	return objects, errors.Join(failures...)
}

func nameOf(object runtime.Object) string {
	if named, ok := object.(meta.Object); ok {
		return named.GetName()
	}
	return ""
}

// checkTogether holds the objects to the pods of the only Deployment.
func checkTogether(objects []runtime.Object) []error {
	var deployments []*apps.Deployment
	for _, object := range objects {
		if deployment, ok := object.(*apps.Deployment); ok {
			deployments = append(deployments, deployment)
		}
	}
	if len(deployments) != 1 {
		return []error{fmt.Errorf("%d Deployments, where the rest belongs to one", len(deployments))}
	}
	pods := newPods(deployments[0])
	pods.checkSecurity()
	pods.selectedBy("Deployment", deployments[0].Spec.Selector)
	for _, object := range objects {
		switch object := object.(type) {
		case *core.Service:
			pods.selectedBy("Service", &meta.LabelSelector{MatchLabels: object.Spec.Selector})
			for _, port := range object.Spec.Ports {
				pods.havePort("Service", &port.TargetPort)
			}
		case *networking.NetworkPolicy:
			pods.selectedBy("NetworkPolicy", &object.Spec.PodSelector)
			for _, rule := range object.Spec.Ingress {
				for _, port := range rule.Ports {
					pods.havePort("NetworkPolicy", port.Port)
				}
			}
		case *disruption.PodDisruptionBudget:
			pods.selectedBy("PodDisruptionBudget", object.Spec.Selector)
		case *monitoring.PodMonitor:
			pods.selectedBy("PodMonitor", &object.Spec.Selector)
			for _, endpoint := range object.Spec.PodMetricsEndpoints {
				if endpoint.Port == nil {
					pods.fail("PodMonitor: an endpoint without a named port")
					continue
				}
				port := intstr.FromString(*endpoint.Port)
				pods.havePort("PodMonitor", &port)
			}
			if pods.labels[object.Spec.JobLabel] == "" {
				pods.fail("PodMonitor: jobLabel %q is no label of the pods", object.Spec.JobLabel)
			}
		}
	}
	return pods.failures
}

// pods are those that a Deployment makes, and what was found wrong about them.
type pods struct {
	template core.PodTemplateSpec
	labels   labels.Set
	ports    map[string]bool
	failures []error
}

func newPods(deployment *apps.Deployment) *pods {
	template := deployment.Spec.Template
	pods := &pods{template: template, labels: maps.Clone(template.Labels), ports: map[string]bool{}}
	for _, container := range template.Spec.Containers {
		for _, port := range container.Ports {
			pods.ports[port.Name] = true
		}
		for what, probe := range map[string]*core.Probe{
			"startupProbe": container.StartupProbe, "livenessProbe": container.LivenessProbe,
			"readinessProbe": container.ReadinessProbe,
		} {
			if probe == nil || probe.HTTPGet == nil {
				pods.fail("container %s: no %s over HTTP", container.Name, what)
				continue
			}
			pods.havePort(what, &probe.HTTPGet.Port)
		}
	}
	return pods
}

func (pods *pods) fail(format string, arguments ...any) {
	pods.failures = append(pods.failures, fmt.Errorf(format, arguments...))
}

func (pods *pods) selectedBy(what string, selector *meta.LabelSelector) {
	parsed, err := meta.LabelSelectorAsSelector(selector)
	switch {
	case err != nil:
		pods.fail("%s: its selector: %w", what, err)
	case parsed.Empty() || !parsed.Matches(pods.labels):
		pods.fail("%s: its selector %q does not select the pods (%s)", what, parsed, pods.labels)
	}
}

func (pods *pods) havePort(what string, port *intstr.IntOrString) {
	if port == nil || port.Type != intstr.String || !pods.ports[port.StrVal] {
		pods.fail("%s: its port %v is none of the container's names", what, port)
	}
}

func (pods *pods) checkSecurity() {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		pods.fail("the Pod Security Standard: %w", err)
		return
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pods.template.ObjectMeta, &pods.template.Spec))
	if !result.Allowed {
		pods.fail("%s: %s", level, strings.TrimSpace(result.ForbiddenDetail()))
	}
	for _, container := range pods.template.Spec.Containers {
		context := container.SecurityContext
		if context == nil || context.ReadOnlyRootFilesystem == nil || !*context.ReadOnlyRootFilesystem {
			pods.fail("container %s: its root file system can be written", container.Name)
		}
		if container.Resources.Requests.Cpu().IsZero() || container.Resources.Limits.Memory().IsZero() {
			pods.fail("container %s: no request of processor time, or no limit of memory", container.Name)
		}
	}
}
