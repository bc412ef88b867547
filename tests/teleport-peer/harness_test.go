package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// asProgram makes the test binary run as the program.
const asProgram = "TELEPORT_PEER_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program prepares a run of the program, in a process that ends with the test.
func program(t *testing.T, arguments ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(self, arguments...)
	command.Env = append(os.Environ(), asProgram+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return command
}

// testTPM is a software TPM with an EK certificate.
type testTPM struct {
	address string
	hash    string
	serial  string
	eccHash string
	caFile  string
}

// newTPM starts swtpm with a new state, and waits until it answers.
func newTPM(t *testing.T) *testTPM {
	t.Helper()
	for _, tool := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	manufacture(t, dir)
	// A socket's path is short, unlike the directory of a test.
	short, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	socket := filepath.Join(short, "tpm")
	swtpm := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	swtpm.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := swtpm.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { swtpm.Process.Kill(); swtpm.Wait() })
	tpm := &testTPM{address: "unix:" + socket, caFile: filepath.Join(dir, "ca.pem")}
	deadline := time.Now().Add(networkTimeout)
	for {
		channel, err := openTPM(tpm.address)
		if err == nil {
			channel.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	rsa, ecc := identify(t, "--tpm", tpm.address), identify(t, "--tpm", tpm.address, "--ek-alg", "ecc")
	tpm.hash, tpm.serial, tpm.eccHash = rsa.Hash, rsa.Serial, ecc.Hash
	t.Cleanup(func() { tpm.isEmpty(t) })
	return tpm
}

// isEmpty checks that no run left a key or a session loaded.
func (tpm *testTPM) isEmpty(t *testing.T) {
	channel, err := openTPM(tpm.address)
	if err != nil {
		t.Fatal(err)
	}
	defer channel.Close()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // transient, HMAC, policy
		found, err := tpm2.GetCapability{
			Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 8,
		}.Execute(transport.FromReadWriter(channel))
		if err != nil {
			t.Fatal(err)
		}
		handles, err := found.CapabilityData.Data.Handles()
		if err != nil {
			t.Fatal(err)
		}
		if len(handles.Handle) > 0 {
			t.Errorf("left loaded: %x", handles.Handle)
		}
	}
}

// manufacture makes the state of a TPM, and the CA of its EK certificate.
func manufacture(t *testing.T, dir string) {
	t.Helper()
	tool, err := exec.LookPath("swtpm_localca")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"localca.conf": fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/key.pem\nissuercert = %[1]s/ca.pem\ncertserial = %[1]s/serial\n", dir),
		"options":      "",
		"setup.conf": fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s/localca.conf\ncreate_certs_tool_options = %s/options\n",
			tool, dir, dir),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	setup := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", dir, "--create-ek-cert",
		"--config", filepath.Join(dir, "setup.conf"))
	if out, err := setup.CombinedOutput(); err != nil {
		t.Skipf("swtpm_setup cannot make a TPM here: %v\n%s", err, out)
	}
}

func identify(t *testing.T, arguments ...string) (facts ekFacts) {
	t.Helper()
	out, err := program(t, append([]string{"identify"}, arguments...)...).Output()
	if err != nil {
		t.Fatalf("identify %v: %v", arguments, err)
	}
	if err := json.Unmarshal(out, &facts); err != nil {
		t.Fatal(err)
	}
	return facts
}

// testServer is a running server and what it has printed.
type testServer struct {
	Auth   string `json:"auth_addr"`
	Proxy  string `json:"proxy_addr"`
	L7     string `json:"l7_addr"`
	Pin    string `json:"ca_pin"`
	HostCA string `json:"host_ca_file"`
	WebCA  string `json:"web_ca_file"`
	lines  *lineLog
}

// startServer runs the server until the test ends.
func startServer(t *testing.T, arguments ...string) *testServer {
	t.Helper()
	command := program(t, append([]string{"server", "--exit-on-stdin-eof", "--dir", t.TempDir()}, arguments...)...)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatalf("server %v did not start: %v", arguments, err)
	}
	s := &testServer{lines: &lineLog{done: make(chan struct{})}}
	if err := json.Unmarshal(first, s); err != nil {
		t.Fatal(err)
	}
	go s.lines.collect(lines)
	t.Cleanup(func() {
		stdin.Close()
		<-s.lines.done
		if err := command.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return s
}

// lineLog collects the lines of a server.
type lineLog struct {
	done chan struct{}
	text bytes.Buffer
}

func (l *lineLog) collect(r io.Reader) {
	defer close(l.done)
	io.Copy(&l.text, r)
}

// runAs runs the client against a server, and returns its report.
func (s *testServer) runAs(t *testing.T, arguments ...string) report {
	t.Helper()
	var r report
	decode(t, s.client(t, arguments...), &r)
	return r
}

func (s *testServer) client(t *testing.T, arguments ...string) []byte {
	t.Helper()
	command := program(t, append([]string{"client"}, arguments...)...)
	command.Env = append(command.Env, "SSL_CERT_FILE="+s.WebCA)
	command.Stderr = os.Stderr
	out, err := command.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("client %v: %v", arguments, err)
	}
	return out
}

func decode(t *testing.T, out []byte, value any) {
	t.Helper()
	if err := json.Unmarshal(out, value); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
}

// joins checks that a run succeeded, and says why it did not.
func (r *report) joins(t *testing.T) {
	t.Helper()
	if !r.OK {
		events, _ := json.Marshal(r.Events)
		t.Fatalf("%s\n%s", r.Error, events)
	}
}

// fails checks that a run failed for a reason.
func (r *report) fails(t *testing.T, reason string) {
	t.Helper()
	if r.OK || !strings.Contains(r.Error, reason) {
		t.Fatalf("want a failure with %q, got ok=%t %s", reason, r.OK, r.Error)
	}
}

// has tells whether an event of this kind and name took place, with this code.
func (r *report) has(kind, name, code string) bool {
	for _, e := range r.Events {
		if e.Kind == kind && e.Name == name && e.Code == code {
			return true
		}
	}
	return false
}
