package daemontest

import "strings"

// testCreateFields tests what a create call may say of keys, addresses and the
// network.
func testCreateFields(a *api) {
	const nodes = "/hostgroup/" + Group + "/nodes"
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGU someone@example"
	a.run("ssh_keys let ubuntu in", func(a *api) {
		vm := a.furnishedVMWith(`{"ssh_keys":[` + quote(key) + `,` + quote(key+"2\n") + `]}`)
		if got, want := a.read(vm, "/home/ubuntu/.ssh/authorized_keys"), key+"\n"+key+"2\n"; got != want {
			a.t.Errorf("authorized_keys = %q, want %q", got, want)
		}
		for name, want := range map[string]string{
			"/home/ubuntu/.ssh": "1000 1000 700\n", "/home/ubuntu/.ssh/authorized_keys": "1000 1000 600\n",
		} {
			if got := a.output(vm, "owner", name); got != want {
				a.t.Errorf("owner and mode of %s = %q, want %q", name, got, want)
			}
		}
	})
	a.run("an import_user that can't be found is told in the logs", func(a *api) {
		vm := a.createVM(`{"import_user":"someone-there"}`)
		logs := a.ok(200, "GET", "/vm/"+vm+"/logs?lines=0", "").object(logsFields)["content"].(string)
		if !strings.Contains(logs, "import_user") {
			a.t.Errorf("logs = %q, want why import_user brought no keys", logs)
		}
	})
	a.run("ip is taken as asked for", func(a *api) {
		made := a.ok(201, "POST", nodes, `{"ip":"192.168.137.77"}`).object(createdFields)
		if made["ip"] != "192.168.137.77/24" {
			a.t.Errorf("ip = %v, want 192.168.137.77/24", made["ip"])
		}
		a.refused(409, "192.168.137.77", "POST", nodes, `{"ip":"192.168.137.77/24"}`)
		a.ok(200, "DELETE", nodes+"/"+made["hostname"].(string), "")
		a.ok(201, "POST", nodes, `{"ip":"192.168.137.77/24"}`)
	})
	a.run("a network that drops is what an isolated one does", func(a *api) {
		vm := a.createVM(`{"network":{"drop":["10.0.0.0/8"]}}`)
		network := a.ok(200, "GET", "/vm/"+vm, "").object(describe)["network"].(map[string]any)
		override, _ := network["override"].(map[string]any)
		if drop, _ := override["drop"].([]any); len(drop) != 1 || drop[0] != "10.0.0.0/8" {
			a.t.Errorf("network = %v, want the override", network)
		}
	})
	for _, tt := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"a key of two lines", `{"ssh_keys":["ssh-rsa AAAA\nssh-rsa BBBB"]}`, 400, "ssh_keys"},
		{"a key that is none", `{"ssh_keys":["nonsense"]}`, 400, "ssh_keys"},
		{"a key beyond all bounds", `{"ssh_keys":["ssh-rsa ` + strings.Repeat("A", 20_000) + `"]}`, 400, "ssh_keys"},
		{"a user that is a path", `{"import_user":"../x"}`, 400, "import_user"},
		{"an address outside", `{"ip":"10.0.0.1"}`, 400, "ip"},
		{"the network's own address", `{"ip":"192.168.137.0"}`, 400, "ip"},
		{"an address with dots and no numbers", `{"ip":"a.b.c.d"}`, 400, "ip"},
		{"a network that allows", `{"network":{"allow":["0.0.0.0/0"]}}`, 501, "network"},
		{"a network of nonsense", `{"network":{"drop":["x"]}}`, 400, "network"},
	} {
		a.run("refuses "+tt.name, func(a *api) { a.refused(tt.status, tt.says, "POST", nodes, tt.body) })
	}
}
