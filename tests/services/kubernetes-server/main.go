// kubernetes-server is what the tests call a cluster: a real etcd, kube-apiserver and kube-controller-manager
// in one process on 127.0.0.1, and a stand-in for the kubelet. No container is ever run.
//
//	kubernetes-server DIR PORT       serves until it is told to stop; DIR/ready appears when DIR/kubeconfig can be used
//	kubectl ...                      what the same program does when that is its name
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
)

// How long a part may take to come up, and how long the parts may take to end.
const (
	startMax = 120 * time.Second
	endMax   = 5 * time.Second
)

func init() {
	// The parts share a process: the second one may not change the logging that the first one set.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
}

func main() {
	if filepath.Base(os.Args[0]) == "kubectl" {
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return
	}
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: kubernetes-server DIR PORT")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes-server:", err)
		os.Exit(1)
	}
}

// serve starts one part after the other, waits for a signal or the first part that fails, and ends them all.
func serve(dir, port string) error {
	// Everything lies in the working directory: a socket's path may have no more than 107 bytes.
	if err := os.Chdir(dir); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	url := "https://127.0.0.1:" + port
	if err := ensureKeys(url); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	etcd, err := startEtcd()
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer etcd.Close()

	parts := &parts{failed: make(chan error, 2)}
	defer parts.wait()
	parts.run("kube-apiserver", func() error { return runAPIServer(ctx, port) })
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfigFile)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = -1, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := parts.until(ctx, "the API server is ready", func() bool {
		var status int
		client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&status)
		return status == 200
	}); err != nil {
		return err
	}
	parts.run("kube-controller-manager", func() error { return runControllers(ctx) })
	if err := startNode(ctx, client); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	// Pods are refused until a controller has made the namespace's account.
	if err := parts.until(ctx, "the default account is there", func() bool {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", getOptions)
		return err == nil
	}); err != nil {
		return err
	}
	if err := os.WriteFile("ready", nil, 0o600); err != nil {
		return err
	}
	fmt.Println("ready at", url)
	select {
	case <-ctx.Done():
		return nil
	case err := <-parts.failed:
		stop()
		return err
	}
}

// parts are what runs until the context ends, each in a goroutine of its own.
type parts struct {
	failed chan error
	done   []chan struct{}
}

func (p *parts) run(name string, run func() error) {
	done := make(chan struct{})
	p.done = append(p.done, done)
	go func() {
		defer close(done)
		if err := run(); err != nil {
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
}

func (p *parts) until(ctx context.Context, what string, holds func() bool) error {
	deadline := time.After(startMax)
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.failed:
			return err
		case <-deadline:
			return fmt.Errorf("not within %s: %s", startMax, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// wait gives the parts some time to end: the API server would drain its watches for longer than a test likes.
func (p *parts) wait() {
	deadline := time.After(endMax)
	for _, done := range p.done {
		select {
		case <-done:
		case <-deadline:
			return
		}
	}
}
