// A workload that uses go-spiffe: SOCKET|tcp://ADDRESS UID once | watch | reflect | serve PEER | dial PEER ADDRESS. Prints what it
// receives, a line of JSON each.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const timeout = 180 * time.Second

func main() {
	socket, uid, mode := os.Args[1], os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := become(uid); err != nil {
		fail(err)
	}
	if mode == "reflect" {
		if err := reflect(ctx, socket); err != nil {
			fail(err)
		}
		return
	}
	address := socket
	if !strings.HasPrefix(address, "tcp://") {
		address = "unix://" + socket
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(address))
	if err != nil {
		fail(err)
	}
	defer client.Close()
	switch mode {
	case "watch":
		_ = client.WatchX509Context(ctx, watcher{})
	case "serve":
		err = serve(ctx, client, os.Args[4])
	case "dial":
		err = dial(ctx, client, os.Args[4], os.Args[5])
	default:
		err = once(ctx, client)
	}
	if err != nil {
		fail(err)
	}
}

func become(uid string) error {
	id, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(id); err != nil {
		return err
	}
	return syscall.Setuid(id)
}

// once fetches each kind of identity, and verifies the JWT with the bundle of the agent and by the agent.
func once(ctx context.Context, client *workloadapi.Client) error {
	svids, err := client.FetchX509SVIDs(ctx)
	if err != nil {
		return err
	}
	jwt, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "x", ExtraAudiences: []string{"y"}})
	if err != nil {
		return err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return err
	}
	verified, err := jwtsvid.ParseAndValidate(jwt.Marshal(), bundles, []string{"y"})
	if err != nil {
		return err
	}
	validated, err := client.ValidateJWTSVID(ctx, jwt.Marshal(), "x")
	if err != nil {
		return err
	}
	if _, err := client.ValidateJWTSVID(ctx, jwt.Marshal(), "z"); err == nil {
		return fmt.Errorf("valid for another audience")
	}
	say(map[string]any{
		"ids":       []string{svids[0].ID.String(), verified.ID.String(), validated.ID.String()},
		"hint":      svids[0].Hint,
		"svids":     len(svids),
		"audiences": verified.Audience,
	})
	return nil
}

// serve answers the clients with this SPIFFE ID, and says who was refused.
func serve(ctx context.Context, client *workloadapi.Client, peer string) error {
	id, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	mode := spiffetls.MTLSServerWithSourceOptions(tlsconfig.AuthorizeID(id), workloadapi.WithClient(client))
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", mode)
	if err != nil {
		return err
	}
	defer listener.Close()
	context.AfterFunc(ctx, func() { listener.Close() })
	say(map[string]string{"address": listener.Addr().String()})
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		if err := answer(connection); err != nil {
			say(map[string]string{"error": err.Error()})
		} else {
			say(map[string]string{"peer": peer})
		}
	}
}

func answer(connection net.Conn) error {
	defer connection.Close()
	greeting := make([]byte, 6)
	if _, err := io.ReadFull(connection, greeting); err != nil {
		return err
	}
	_, err := connection.Write(greeting)
	return err
}

// dial greets the server with this SPIFFE ID, and waits until it has accepted this workload.
func dial(ctx context.Context, client *workloadapi.Client, peer, address string) error {
	id, err := spiffeid.FromString(peer)
	if err != nil {
		return err
	}
	mode := spiffetls.MTLSClientWithSourceOptions(tlsconfig.AuthorizeID(id), workloadapi.WithClient(client))
	connection, err := spiffetls.DialWithMode(ctx, "tcp", address, mode)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("hello\n")); err != nil {
		return err
	}
	if _, err := io.ReadFull(connection, make([]byte, 6)); err != nil {
		return err
	}
	say(map[string]string{"peer": peer})
	return nil
}

type watcher struct{}

func (watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	svid := update.DefaultSVID()
	say(map[string]any{"id": svid.ID.String(), "serial": svid.Certificates[0].SerialNumber.String()})
}

func (watcher) OnX509ContextWatchError(err error) {
	say(map[string]string{"error": err.Error()})
}

func say(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func fail(err error) {
	say(map[string]string{"error": err.Error()})
	os.Exit(1)
}
