// A workload that uses go-spiffe: SOCKET UID once|watch. Prints what it receives, a line of JSON each.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const timeout = 60 * time.Second

func main() {
	socket, uid, mode := os.Args[1], os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := become(uid); err != nil {
		fail(err)
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		fail(err)
	}
	defer client.Close()
	if mode == "watch" {
		_ = client.WatchX509Context(ctx, watcher{})
		return
	}
	if err := once(ctx, client); err != nil {
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
