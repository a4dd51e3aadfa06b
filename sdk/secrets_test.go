package slicer_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

func TestSecretsOnTheWire(t *testing.T) {
	client := playback(
		t,
		exchange{"", `POST /secrets {"name":"key","data":"cmF3AHZhbHVl","permissions":"0400","uid":1000,"gid":1000}`},
		exchange{"", `POST /secrets {"name":"key","data":""}`},
		exchange{"", `PATCH /secrets/key {"data":"bmV3"}`},
		exchange{"", `PATCH /secrets/key {"permissions":"0444"}`},
		exchange{"", `DELETE /secrets/key`},
	)
	if err := client.CreateSecret(t.Context(), slicer.CreateSecretRequest{
		Name: "key", Data: "raw\x00value", Permissions: "0400", UID: 1000, GID: 1000,
	}); err != nil {
		t.Errorf("CreateSecret = %v", err)
	}
	if err := client.CreateSecret(t.Context(), slicer.CreateSecretRequest{Name: "key", UID: slicer.NonRootUser, GID: slicer.NonRootUser}); err != nil {
		t.Errorf("CreateSecret = %v", err)
	}
	if err := client.PatchSecret(t.Context(), "key", slicer.UpdateSecretRequest{Data: "new", UID: slicer.NonRootUser}); err != nil {
		t.Errorf("PatchSecret = %v", err)
	}
	if err := client.PatchSecret(t.Context(), "key", slicer.UpdateSecretRequest{Permissions: "0444"}); err != nil {
		t.Errorf("PatchSecret = %v", err)
	}
	if err := client.DeleteSecret(t.Context(), "key"); err != nil {
		t.Errorf("DeleteSecret = %v", err)
	}
	if err := client.CreateSecret(t.Context(), slicer.CreateSecretRequest{Data: "x"}); err == nil {
		t.Error("CreateSecret without a name = nil, want an error")
	}
}

func TestSecretTimesGoByTwoNames(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	client := playback(t, exchange{`[
		{"name":"a","size":3,"permissions":"0600","uid":1,"gid":2,"mod_time":"2026-03-01T12:00:00Z"},
		{"name":"b","size":0,"permissions":"0400","modified_at":"2026-03-01T12:00:00Z"},
		{"name":"c","size":0,"permissions":"0400"}]`, "GET /secrets"})
	secrets, err := client.ListSecrets(t.Context())
	check(t, "ListSecrets", secrets, err, []slicer.Secret{
		{Name: "a", Size: 3, Permissions: "0600", UID: 1, GID: 2, ModifiedAt: &at},
		{Name: "b", Permissions: "0400", ModifiedAt: &at},
		{Name: "c", Permissions: "0400"},
	})
}

func TestSecretExists(t *testing.T) {
	client := serve(t, answer(http.StatusConflict, "application/json", `{"error":"exists"}`))
	err := client.CreateSecret(t.Context(), slicer.CreateSecretRequest{Name: "key", Data: "x"})
	if !errors.Is(err, slicer.ErrSecretExists) {
		t.Errorf("CreateSecret = %v, want ErrSecretExists", err)
	}
}
