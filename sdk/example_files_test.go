package slicer_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// A folder goes into a VM without what isn't needed there, and comes back.
func ExampleSlicerClient_CpToVM() {
	server, err := slicertest.Start(slicertest.Options{}) // stands for a Slicer daemon
	if err != nil {
		log.Panic(err)
	}
	defer server.Close()
	client, ctx := server.Client(), context.Background()
	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Panic(err)
	}

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Panic(err)
	}
	defer os.RemoveAll(dir)
	project := filepath.Join(dir, "project")
	for _, name := range []string{"main.go", "docs/guide.md", "node_modules/x/index.js", "debug.log"} {
		file := filepath.Join(project, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			log.Panic(err)
		}
		if err := os.WriteFile(file, []byte("this is "+name+"\n"), 0o644); err != nil {
			log.Panic(err)
		}
	}

	// Into the VM, for its ordinary user.
	err = client.CpToVM(ctx, vm.Hostname, project, "/home/ubuntu/project",
		slicer.NonRootUser, slicer.NonRootUser, "", "tar", "node_modules/", "*.log")
	if err != nil {
		log.Panic(err)
	}

	// And out of it again, to another name.
	result := filepath.Join(dir, "result")
	if err := client.CpFromVM(ctx, vm.Hostname, "/home/ubuntu/project", result, "", "tar"); err != nil {
		log.Panic(err)
	}
	err = fs.WalkDir(os.DirFS(result), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			fmt.Println(name)
		}
		return err
	})
	if err != nil {
		log.Panic(err)
	}
	// Output:
	// docs/guide.md
	// main.go
}

// A secret's value goes in as it is and never comes back but as a file in a VM.
func ExampleSlicerClient_CreateSecret() {
	server, err := slicertest.Start(slicertest.Options{}) // stands for a Slicer daemon
	if err != nil {
		log.Panic(err)
	}
	defer server.Close()
	client, ctx := server.Client(), context.Background()

	err = client.CreateSecret(ctx, slicer.CreateSecretRequest{
		Name: "api-key", Data: "correct horse battery staple", Permissions: "0400", UID: 1000, GID: 1000,
	})
	if err != nil {
		log.Panic(err)
	}
	secrets, err := client.ListSecrets(ctx)
	if err != nil {
		log.Panic(err)
	}
	for _, secret := range secrets {
		fmt.Println(secret.Name, secret.Size, secret.Permissions, secret.UID)
	}

	// Of all secrets the VM gets this one.
	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{Secrets: []string{"api-key"}})
	if err != nil {
		log.Panic(err)
	}
	value, err := client.ReadFile(ctx, vm.Hostname, "/run/slicer/secrets/api-key")
	if err != nil {
		log.Panic(err)
	}
	fmt.Println(string(value))

	if err := client.DeleteSecret(ctx, "api-key"); err != nil {
		log.Panic(err)
	}
	// Output:
	// api-key 28 0400 1000
	// correct horse battery staple
}

// When WatchFS returns, no change goes unnoticed any more.
func ExampleSlicerClient_WatchFS() {
	server, err := slicertest.Start(slicertest.Options{}) // stands for a Slicer daemon
	if err != nil {
		log.Panic(err)
	}
	defer server.Close()
	client, ctx := server.Client(), context.Background()
	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Panic(err)
	}

	events, err := client.WatchFS(ctx, vm.Hostname, slicer.SlicerFSWatchRequest{
		Paths: []string{"/tmp"}, Patterns: []string{"*.txt"}, Events: []string{"create", "remove"}, MaxEvents: 1,
	})
	if err != nil {
		log.Panic(err)
	}
	for _, name := range []string{"/tmp/ignored.log", "/tmp/report.txt"} {
		if err := client.WriteFile(ctx, vm.Hostname, name, []byte("done\n"), 0o644, 0, 0); err != nil {
			log.Panic(err)
		}
	}
	for event := range events {
		if event.Err != nil {
			log.Panic(event.Err)
		}
		fmt.Println(event.Type, event.Path)
	}
	// Output:
	// create /tmp/report.txt
}

// The files of a VM are an fs.FS, for all that takes one.
func ExampleSlicerClient_FS() {
	server, err := slicertest.Start(slicertest.Options{}) // stands for a Slicer daemon
	if err != nil {
		log.Panic(err)
	}
	defer server.Close()
	client, ctx := server.Client(), context.Background()
	vm, err := client.CreateVM(ctx, "sbox", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		log.Panic(err)
	}
	if err := client.MkdirAll(ctx, vm.Hostname, "/srv/www/css", 0o755); err != nil {
		log.Panic(err)
	}
	for _, name := range []string{"/srv/www/index.html", "/srv/www/css/site.css"} {
		if err := client.WriteFile(ctx, vm.Hostname, name, []byte("…"), 0o644, 0, 0); err != nil {
			log.Panic(err)
		}
	}

	err = fs.WalkDir(client.FS(ctx, vm.Hostname, "/srv/www"), ".", func(name string, _ fs.DirEntry, err error) error {
		fmt.Println(name)
		return err
	})
	if err != nil {
		log.Panic(err)
	}
	// Output:
	// .
	// css
	// css/site.css
	// index.html
}
