package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	nodeName   = "stand-in"
	startDelay = 200 * time.Millisecond
	beatPause  = 10 * time.Second
)

var getOptions = metav1.GetOptions{}

// node does what the scheduler and a kubelet would do: it binds each new pod to itself, says after a moment
// that it runs and is ready, and completes its deletion. The tag of an image decides a pod's fate:
//
//	:image-missing  the container waits with ImagePullBackOff, and the pod stays Pending
//	:crash          the container waits with CrashLoopBackOff, and the pod is never ready
//	:unready        the pod runs and is never ready
type node struct {
	ctx     context.Context
	client  kubernetes.Interface
	started atomic.Uint32
	seen    sync.Map // of pods' UIDs: one that was begun before kill -9 is begun again
}

func startNode(ctx context.Context, client kubernetes.Interface) error {
	n := &node{ctx: ctx, client: client}
	_, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: nodeName, Labels: map[string]string{"kubernetes.io/hostname": nodeName, "kubernetes.io/os": "linux"},
	}}, metav1.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		return err
	}
	if err := n.beat(); err != nil {
		return err
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(beatPause):
				_ = n.beat() // the next one comes soon enough
			}
		}
	}()
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(pod any) { n.see(pod.(*corev1.Pod)) },
		UpdateFunc: func(_, pod any) { n.see(pod.(*corev1.Pod)) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
		return fmt.Errorf("the watch of pods did not start")
	}
	return nil
}

// beat says that the node is well, or its pods would be driven away.
func (n *node) beat() error {
	sizes := corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("256Gi"), "pods": resource.MustParse("5000")}
	bytes, err := json.Marshal(map[string]any{"status": corev1.NodeStatus{
		Capacity: sizes, Allocatable: sizes,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn",
			Message: "no container is run", LastHeartbeatTime: metav1.Now()}},
	}})
	if err != nil {
		return err
	}
	_, err = n.client.CoreV1().Nodes().Patch(n.ctx, nodeName, types.StrategicMergePatchType, bytes, metav1.PatchOptions{}, "status")
	return err
}

func (n *node) see(pod *corev1.Pod) {
	pods := n.client.CoreV1().Pods(pod.Namespace)
	switch {
	case pod.DeletionTimestamp != nil:
		now := int64(0)
		go pods.Delete(n.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	case pod.Spec.NodeName == "":
		go pods.Bind(n.ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: nodeName},
		}, metav1.CreateOptions{})
	case pod.Spec.NodeName == nodeName && pod.Status.Phase == corev1.PodPending:
		if _, begun := n.seen.LoadOrStore(pod.UID, nil); !begun {
			go n.start(pod.DeepCopy())
		}
	}
}

// start takes a pod as far as its image lets it go.
func (n *node) start(pod *corev1.Pod) {
	now := metav1.Now()
	status := corev1.PodStatus{Phase: corev1.PodPending, HostIP: "127.0.0.1", StartTime: &now,
		ContainerStatuses: waiting(pod, "ContainerCreating", 0), Conditions: conditions(false)}
	if !n.report(pod, status) {
		return
	}
	select {
	case <-n.ctx.Done():
		return
	case <-time.After(startDelay):
	}
	fate := fateOf(pod)
	if fate == "image-missing" {
		status.ContainerStatuses = waiting(pod, "ImagePullBackOff", 0)
		n.report(pod, status)
		return
	}
	number := n.started.Add(1)
	status.PodIP = fmt.Sprintf("10.244.%d.%d", number>>8&255, number&255)
	status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
	status.Phase = corev1.PodRunning
	ready := fate == ""
	status.Conditions = conditions(ready)
	if fate == "crash" {
		status.ContainerStatuses = waiting(pod, "CrashLoopBackOff", 3)
	} else {
		status.ContainerStatuses = nil
		for _, c := range pod.Spec.Containers {
			status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
				Name: c.Name, Image: c.Image, Ready: ready, Started: &ready, ContainerID: "none://" + string(pod.UID), ImageID: c.Image,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
			})
		}
	}
	n.report(pod, status)
}

func (n *node) report(pod *corev1.Pod, status corev1.PodStatus) bool {
	bytes, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return false
	}
	_, err = n.client.CoreV1().Pods(pod.Namespace).Patch(n.ctx, pod.Name, types.StrategicMergePatchType, bytes, metav1.PatchOptions{}, "status")
	return err == nil
}

func fateOf(pod *corev1.Pod) string {
	for _, c := range pod.Spec.Containers {
		for _, fate := range []string{"image-missing", "crash", "unready"} {
			if strings.HasSuffix(c.Image, ":"+fate) {
				return fate
			}
		}
	}
	return ""
}

func waiting(pod *corev1.Pod, reason string, restarts int32) []corev1.ContainerStatus {
	var found []corev1.ContainerStatus
	for _, c := range pod.Spec.Containers {
		found = append(found, corev1.ContainerStatus{Name: c.Name, Image: c.Image, RestartCount: restarts,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}})
	}
	return found
}

func conditions(ready bool) []corev1.PodCondition {
	is := corev1.ConditionFalse
	if ready {
		is = corev1.ConditionTrue
	}
	now := metav1.Now()
	return []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: is, LastTransitionTime: now},
		{Type: corev1.PodReady, Status: is, LastTransitionTime: now},
	}
}
