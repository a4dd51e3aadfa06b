package slicer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

type ctxClient = *slicer.SlicerClient

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// TestRecords holds calls to what they send and what they make of an answer.
func TestRecords(t *testing.T) {
	for _, tt := range []struct {
		name   string
		call   func(context.Context, ctxClient) (any, error)
		sends  string // method, URI and body
		answer string
		want   any
	}{
		{
			"stats of all VMs",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMStats(ctx, "") },
			"GET /nodes/stats",
			`[{"hostname":"a","ip":"10.0.0.2/24","created_at":"2026-01-02T12:00:00Z","snapshot":{"totalMemory":5,"loadAvg1":0.5}},` +
				`{"hostname":"b","snapshot":null,"error":"paused","created_at":"2026-01-02T12:00:00Z"}]`,
			[]slicer.SlicerNodeStat{
				{Hostname: "a", IP: "10.0.0.2/24", CreatedAt: noon, Snapshot: &slicer.SlicerSnapshot{TotalMemory: 5, LoadAvg1: 0.5}},
				{Hostname: "b", Error: "paused", CreatedAt: noon},
			},
		},
		{
			"stats of a VM as an object",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMStats(ctx, "a") },
			"GET /node/a/stats", ` {"hostname":"a","snapshot":{"uptime":"1m"}}`,
			[]slicer.SlicerNodeStat{{Hostname: "a", Snapshot: &slicer.SlicerSnapshot{Uptime: "1m"}}},
		},
		{
			"stats of a VM as an array",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMStats(ctx, "a") },
			"GET /node/a/stats", `[{"hostname":"a"}]`,
			[]slicer.SlicerNodeStat{{Hostname: "a"}},
		},
		{
			"all logs",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMLogs(ctx, "a", -1) },
			"GET /vm/a/logs?lines=0", `{"hostname":"a","lines":0,"content":"x\n"}`,
			&slicer.SlicerLogsResponse{Hostname: "a", Content: "x\n"},
		},
		{
			"as many logs as the daemon likes",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMLogs(ctx, "a", 0) },
			"GET /vm/a/logs", `{"hostname":"a","lines":20,"content":""}`,
			&slicer.SlicerLogsResponse{Hostname: "a", Lines: 20},
		},
		{
			"five lines of logs",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMLogs(ctx, "a", 5) },
			"GET /vm/a/logs?lines=5", `{"lines":5}`, &slicer.SlicerLogsResponse{Lines: 5},
		},
		{
			"health with a userdata script that failed",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetAgentHealth(ctx, "a", true) },
			"GET /vm/a/health", `{"agent_uptime":3,"userdata_ran":true,"userdata_exit_code":0,"ip":"10.0.0.2"}`,
			&slicer.SlicerAgentHealthResponse{AgentUptime: 3 * time.Second, UserdataRan: true, UserdataExitCode: new(int), IP: "10.0.0.2"},
		},
		{
			"shutdown",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.Shutdown(ctx, "a", nil) },
			"POST /vm/a/shutdown?action=shutdown", "ok", nil,
		},
		{
			"shutdown without an action",
			func(ctx context.Context, c ctxClient) (any, error) {
				return nil, c.Shutdown(ctx, "a", &slicer.SlicerShutdownRequest{})
			},
			"POST /vm/a/shutdown?action=shutdown", "", nil,
		},
		{
			"reboot",
			func(ctx context.Context, c ctxClient) (any, error) {
				return nil, c.Shutdown(ctx, "a", &slicer.SlicerShutdownRequest{Action: "reboot"})
			},
			"POST /vm/a/shutdown?action=reboot", "ok", nil,
		},
		{
			"suspend",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.SuspendVM(ctx, "a") },
			"POST /vm/a/suspend", "ok", nil,
		},
		{
			"restore",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.RestoreVM(ctx, "a") },
			"POST /vm/a/restore", "ok", nil,
		},
		{
			"restore and wait",
			func(ctx context.Context, c ctxClient) (any, error) {
				return nil, c.RestoreVMWithOptions(ctx, "a", slicer.RestoreOptions{Wait: "agent", Timeout: 90 * time.Second})
			},
			"POST /vm/a/restore?timeout=1m30s&wait=agent", "ok", nil,
		},
		{
			"relaunch",
			func(ctx context.Context, c ctxClient) (any, error) { return c.RelaunchVM(ctx, "a") },
			"POST /vm/a/relaunch", `{"hostname":"a","ip":"10.0.0.2/24"}`,
			&slicer.SlicerCreateNodeResponse{Hostname: "a", IP: "10.0.0.2/24"},
		},
		{
			"describe",
			func(ctx context.Context, c ctxClient) (any, error) { return c.DescribeVM(ctx, "a") },
			"GET /vm/a",
			`{"hostname":"a","status":"Running","storage":"image","image":"ubuntu","commit_id":"c2","parent_commit_id":"c1",` +
				`"network":{"mode":"isolated","policy_source":"vm","host_group":{"allow":["0.0.0.0/0"]},"override":{"drop":["10.0.0.0/8"]},"effective":{}},"new":1}`,
			&slicer.SlicerVMDescription{
				SlicerNode: slicer.SlicerNode{Hostname: "a", Status: "Running"},
				Storage:    "image", Image: "ubuntu", CommitID: "c2", ParentCommitID: "c1",
				Network: &slicer.SlicerVMNetwork{
					Mode: "isolated", PolicySource: "vm",
					HostGroup: &slicer.SlicerNetworkPolicy{Allow: []string{"0.0.0.0/0"}},
					Override:  &slicer.SlicerNetworkPolicy{Drop: []string{"10.0.0.0/8"}},
					Effective: &slicer.SlicerNetworkPolicy{},
				},
			},
		},
		{
			"a VM with a network policy",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.CreateVM(ctx, "g", slicer.SlicerCreateNodeRequest{Network: &slicer.SlicerNetworkPolicy{Drop: []string{"0.0.0.0/0"}}})
			},
			`POST /hostgroup/g/nodes {"network":{"drop":["0.0.0.0/0"]}}`, `{"hostname":"a"}`,
			&slicer.SlicerCreateNodeResponse{Hostname: "a"},
		},
		{
			"tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.GetVMTags(ctx, "a") },
			"GET /vm/a/tags", `{"hostname":"a","tags":["x","name=y"]}`,
			[]string{"x", "name=y"},
		},
		{
			"add tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.AddVMTags(ctx, "a", "x", "y") },
			`PATCH /vm/a/tags {"add":["x","y"]}`, `{"tags":["x","y"]}`,
			[]string{"x", "y"},
		},
		{
			"add no tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.AddVMTags(ctx, "a") },
			"GET /vm/a/tags", `{"tags":["x"]}`,
			[]string{"x"},
		},
		{
			"remove tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.RemoveVMTags(ctx, "a", "x") },
			`PATCH /vm/a/tags {"remove":["x"]}`, `{"tags":[]}`,
			[]string{},
		},
		{
			"remove no tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.RemoveVMTags(ctx, "a") },
			"GET /vm/a/tags", `{"tags":["x"]}`,
			[]string{"x"},
		},
		{
			"replace tags",
			func(ctx context.Context, c ctxClient) (any, error) { return c.ReplaceVMTags(ctx, "a", "x") },
			`PATCH /vm/a/tags {"replace":["x"]}`, `{"tags":["x"]}`,
			[]string{"x"},
		},
		{
			"take all tags away",
			func(ctx context.Context, c ctxClient) (any, error) { return c.ReplaceVMTags(ctx, "a") },
			`PATCH /vm/a/tags {"replace":[]}`, `{"tags":[]}`,
			[]string{},
		},
		{
			"commit",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.CommitVM(ctx, "a", slicer.SlicerCommitRequest{
					Tags: []string{"t"}, Labels: map[string]string{"k": "v"}, CacheKey: "key",
				})
			},
			`POST /vm/a/commit {"tags":["t"],"labels":{"k":"v"},"cache_key":"key"}`,
			`{"hostname":"a","commit_id":"c1","status":"ready","mode":"cold"}`,
			&slicer.SlicerCommit{Hostname: "a", CommitID: "c1", Status: "ready", Mode: "cold"},
		},
		{
			"commits",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.ListCommits(ctx, slicer.ListCommitsOptions{Tag: "t", CacheKey: "k", Source: "a", Mode: "cold"})
			},
			"GET /vm/commits?cache_key=k&mode=cold&source=a&tag=t",
			`[{"hostname":"a","commit_id":"c1","created_at":"2026-01-02T12:00:00Z"}]`,
			[]slicer.SlicerCommit{{Hostname: "a", CommitID: "c1", CreatedAt: noon}},
		},
		{
			"delete a commit",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.DeleteCommit(ctx, "c1") },
			"DELETE /vm/commits/c1", "", nil,
		},
		{
			"fork",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.ForkCommit(ctx, "c1", slicer.SlicerForkRequest{
					Network: &slicer.SlicerNetworkPolicy{Allow: []string{"1.1.1.1/32"}}, Tags: []string{"t"}, TagMode: "replace",
					Secrets: []string{"s"}, Persistent: true, Fixups: []string{"machine-id"}, CPUs: 2, RamBytes: slicer.GiB(1),
				}, slicer.ForkOptions{Wait: "agent", Timeout: time.Minute})
			},
			`POST /vm/commits/c1/fork?timeout=1m0s&wait=agent {"network":{"allow":["1.1.1.1/32"]},"tags":["t"],"tag_mode":"replace",` +
				`"secrets":["s"],"persistent":true,"fixups":["machine-id"],"vcpu":2,"ram_bytes":1073741824}`,
			`{"hostname":"b","source_hostname":"a","commit_id":"c1","status":"Running","mode":"cold","persistent":true}`,
			&slicer.SlicerForkResponse{Hostname: "b", SourceHostname: "a", CommitID: "c1", Status: "Running", Mode: "cold", Persistent: true},
		},
		{
			"proxy clients",
			func(ctx context.Context, c ctxClient) (any, error) { return c.ListProxyClients(ctx) },
			"GET /proxy/v1/clients", `[{"name":"agent","created_at":"2026-01-02T12:00:00Z"}]`,
			[]slicer.ProxyClient{{Name: "agent", CreatedAt: noon}},
		},
		{
			"create a proxy client",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.CreateProxyClient(ctx, slicer.CreateProxyClientRequest{Name: "agent"})
			},
			`POST /proxy/v1/clients {"name":"agent"}`, `{"name":"agent","token":"spt_1","created_at":"2026-01-02T12:00:00Z"}`,
			&slicer.ProxyClientCreated{Name: "agent", Token: "spt_1", CreatedAt: noon},
		},
		{
			"delete a proxy client",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.DeleteProxyClient(ctx, "agent") },
			"DELETE /proxy/v1/clients/agent", "", nil,
		},
		{
			"rules of a proxy client",
			func(ctx context.Context, c ctxClient) (any, error) { return c.ListProxyAllowRules(ctx, "agent") },
			"GET /proxy/v1/clients/agent", `[{"host":"*","methods":["GET"],"expires":"2026-01-02T12:00:00Z"}]`,
			[]slicer.ProxyAllowRule{{Host: "*", Methods: []string{"GET"}, Expires: &noon}},
		},
		{
			"add a rule",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.AddProxyAllowRule(ctx, slicer.AddProxyAllowRequest{
					Client: "agent", Host: "api.example.com", Secret: "s", Methods: []string{"GET"}, Paths: []string{"/v1/*"}, TTLSeconds: 60,
				})
			},
			`POST /proxy/v1/allows {"client":"agent","host":"api.example.com","secret":"s","methods":["GET"],"paths":["/v1/*"],"ttl_seconds":60}`,
			`{"host":"api.example.com","secret":"s"}`, &slicer.ProxyAllowRule{Host: "api.example.com", Secret: "s"},
		},
		{
			"remove the rule for any host",
			func(ctx context.Context, c ctxClient) (any, error) {
				return nil, c.RemoveProxyAllowRule(ctx, "agent", "*")
			},
			"DELETE /proxy/v1/allows/agent/%2A", "", nil,
		},
		{
			"proxy secrets",
			func(ctx context.Context, c ctxClient) (any, error) { return c.ListProxySecrets(ctx) },
			"GET /proxy/v1/secrets", `[{"name":"s","host":"h","type":"basic","created_at":"2026-01-02T12:00:00Z"}]`,
			[]slicer.ProxySecret{{Name: "s", Host: "h", Type: "basic", CreatedAt: noon}},
		},
		{
			"create a proxy secret",
			func(ctx context.Context, c ctxClient) (any, error) {
				return c.CreateProxySecret(ctx, slicer.CreateProxySecretRequest{Name: "s", Host: "h", Type: "basic", Value: "u:p"})
			},
			`POST /proxy/v1/secrets {"name":"s","host":"h","type":"basic","value":"u:p"}`, `{"name":"s","host":"h"}`,
			&slicer.ProxySecret{Name: "s", Host: "h"},
		},
		{
			"delete a proxy secret",
			func(ctx context.Context, c ctxClient) (any, error) { return nil, c.DeleteProxySecret(ctx, "s") },
			"DELETE /proxy/v1/secrets/s", "", nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent string
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				sent = strings.TrimRight(r.Method+" "+r.RequestURI+" "+string(body), " ")
				_, _ = io.WriteString(w, tt.answer)
			})
			got, err := tt.call(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			if sent != tt.sends {
				t.Errorf("sent %s\nwant %s", sent, tt.sends)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the result differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusedWithoutARequest(t *testing.T) {
	daemon := &recorder{}
	client := serve(t, daemon.ServeHTTP)
	for name, call := range map[string]func(context.Context) error{
		"logs of -2 lines": func(ctx context.Context) error { return errorOf(client.GetVMLogs(ctx, "a", -2)) },
		"an unknown action": func(ctx context.Context) error {
			return client.Shutdown(ctx, "a", &slicer.SlicerShutdownRequest{Action: "halt"})
		},
		"a timeout for nothing": func(ctx context.Context) error {
			return client.RestoreVMWithOptions(ctx, "a", slicer.RestoreOptions{Timeout: 1})
		},
		"a negative timeout": func(ctx context.Context) error {
			return errorOf(client.ForkCommit(ctx, "c", slicer.SlicerForkRequest{}, slicer.ForkOptions{Wait: "agent", Timeout: -1}))
		},
		"a path that isn't there": func(ctx context.Context) error { return errorOf(client.Stat(ctx, "a", "")) },
		"a folder without a path": func(ctx context.Context) error { return client.Mkdir(ctx, "a", "", 0) },
		"nothing to watch": func(ctx context.Context) error {
			return errorOf(client.WatchFS(ctx, "a", slicer.SlicerFSWatchRequest{}))
		},
		"a negative debounce": func(ctx context.Context) error {
			return errorOf(client.WatchFS(ctx, "a", slicer.SlicerFSWatchRequest{Paths: []string{"/"}, Debounce: -1}))
		},
	} {
		if err := call(t.Context()); err == nil {
			t.Errorf("%s = nil, want an error", name)
		}
		if sent := daemon.take(); len(sent) > 0 {
			t.Errorf("%s sent %q, want nothing", name, sent)
		}
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	// A daemon that repeats all that it got, as it came and decoded.
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got map[string]string
		data, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(data, &got)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "refused: "+got["data"]+" hunter2\nhunter2 "+got["value"]+got["token"])
	})
	const value = "hunter2\nhunter2"
	for name, call := range map[string]func(context.Context) error{
		"CreateSecret": func(ctx context.Context) error {
			return client.CreateSecret(ctx, slicer.CreateSecretRequest{Name: "s", Data: value})
		},
		"PatchSecret": func(ctx context.Context) error {
			return client.PatchSecret(ctx, "s", slicer.UpdateSecretRequest{Data: value})
		},
		"CreateProxySecret": func(ctx context.Context) error {
			return errorOf(client.CreateProxySecret(ctx, slicer.CreateProxySecretRequest{Name: "s", Host: "h", Value: value}))
		},
		"CreateProxyClient": func(ctx context.Context) error {
			return errorOf(client.CreateProxyClient(ctx, slicer.CreateProxyClientRequest{Name: "s", Token: value}))
		},
	} {
		err := call(t.Context())
		if !slicer.IsAPIStatus(err, http.StatusBadRequest) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "aHVudGVy") {
			t.Errorf("%s = %v, want a refusal without the value", name, err)
		}
	}
}

func TestProxySecretExists(t *testing.T) {
	client := serve(t, answer(http.StatusConflict, "text/plain", "secret exists\n"))
	_, err := client.CreateProxySecret(t.Context(), slicer.CreateProxySecretRequest{Name: "s", Host: "h", Value: "v"})
	if !errors.Is(err, slicer.ErrSecretExists) || !slicer.IsAPIStatus(err, http.StatusConflict) {
		t.Errorf("CreateProxySecret = %v, want ErrSecretExists and the status 409", err)
	}
}

func TestStalledDaemonOfRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, stop := pipeServe(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		defer stop()
		for name, call := range map[string]func(context.Context) error{
			"GetVMStats":          func(ctx context.Context) error { return errorOf(client.GetVMStats(ctx, "a")) },
			"GetVMLogs":           func(ctx context.Context) error { return errorOf(client.GetVMLogs(ctx, "a", 0)) },
			"DescribeVM":          func(ctx context.Context) error { return errorOf(client.DescribeVM(ctx, "a")) },
			"GetVMTags":           func(ctx context.Context) error { return errorOf(client.GetVMTags(ctx, "a")) },
			"ListCommits":         func(ctx context.Context) error { return errorOf(client.ListCommits(ctx, slicer.ListCommitsOptions{})) },
			"ListProxyClients":    func(ctx context.Context) error { return errorOf(client.ListProxyClients(ctx)) },
			"ListProxySecrets":    func(ctx context.Context) error { return errorOf(client.ListProxySecrets(ctx)) },
			"ListProxyAllowRules": func(ctx context.Context) error { return errorOf(client.ListProxyAllowRules(ctx, "a")) },
		} {
			start := time.Now()
			err := call(t.Context())
			if err == nil || !strings.Contains(err.Error(), "did not answer") || time.Since(start) != time.Minute {
				t.Errorf("%s = %v after %s, want that the daemon did not answer, after 1m", name, err, time.Since(start))
			}
		}
	})
}
