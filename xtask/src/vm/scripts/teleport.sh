# Teleport's guide to hosts with a TPM: its commands, its files and its names, as they are written there. Before it comes what it
# takes for granted: a cluster at example.teleport.sh:443, whose certificate is from a CA that systems trust.
. /payload/steps.sh
. /payload/walk.sh
PATH=/usr/local/bin:$PATH

# The cluster, and the host's names for the programs.
echo "127.0.0.1 example.teleport.sh" >>/etc/hosts
quiet_step install apt-get -qq install --yes "/payload/$AGENT" "/payload/$AUTHORITY_PACKAGE"
quiet_step install-kill apt-get -qq install --yes --no-install-recommends procps
ln -s /usr/bin/agent /usr/local/bin/tbot
ln -s /usr/bin/authority /usr/local/bin/tctl
mkdir /root/pki /etc/endorse
cd /root/pki
ecdsa='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $ecdsa -subj '/CN=Private root' -days 2 -keyout root.key -out root.crt 2>/dev/null
openssl req $ecdsa -subj /CN=example.teleport.sh -keyout privkey.pem -out leaf.csr 2>/dev/null
printf 'subjectAltName=DNS:example.teleport.sh\nextendedKeyUsage=serverAuth\n' >leaf.ext
openssl x509 -req -in leaf.csr -CA root.crt -CAkey root.key -CAcreateserial -days 2 -extfile leaf.ext -out fullchain.pem 2>/dev/null
install -m 0640 -g endorse-authority -t /etc/endorse fullchain.pem privkey.pem
cat >/etc/endorse/authority.yaml <<'END'
cluster_name: example.teleport.sh
listen: 0.0.0.0:443
public_addr: example.teleport.sh
https_keypairs: [{cert_file: /etc/endorse/fullchain.pem, key_file: /etc/endorse/privkey.pem}]
END
cd /root
step cluster-check authority check -c /etc/endorse/authority.yaml
step cluster-unit authority install systemd --write --config /etc/endorse/authority.yaml
systemctl daemon-reload
step cluster systemctl enable --now endorse-authority
step cluster-status tctl status

# Step 1: the user that tbot runs as, and its access to the TPM.
useradd --system --shell /usr/sbin/nologin teleport
usermod --append --groups tss teleport

# Step 2: the bot.
cat >bot.yaml <<'END'
kind: bot
version: v1
metadata:
  # name is a unique identifier for the Bot in the cluster.
  name: example
spec:
  # roles is a list of roles to grant to the Bot.
  roles: []
END
step bot tctl create -f bot.yaml

# Step 3: the token.
step identify tbot tpm identify
hash=$(tbot tpm identify | sed -n 's/^EK Public Hash: *//p')
cat >bot-token.yaml <<END
kind: token
version: v2
metadata:
  # name identifies the token.
  name: my-bot-token
spec:
  # roles is always "Bot" and join_method is always "tpm".
  roles: [Bot]
  join_method: tpm

  # bot_name is the bot that this token gives access to.
  bot_name: example

  tpm:
    # ekcert_allowed_cas is a list of CA certificates, PEM.
    ekcert_allowed_cas:
      - |
$(sed 's/^/        /' /payload/manufacturer.pem)
    # allow is a list of rules, of which the TPM must match one.
    allow:
        # description has no bearing on who may join.
      - description: "example-server-100"
        # ek_public_hash is the SHA-256 of the EK's public key.
        ek_public_hash: $hash
END
step token tctl create -f bot-token.yaml

# Step 4: the configuration, the storage, the systemd unit.
cat >/etc/tbot.yaml <<'END'
version: v2
proxy_server: example.teleport.sh:443
onboarding:
  join_method: tpm
  token: my-bot-token
storage:
  type: directory
  path: /var/lib/teleport/bot
# outputs will be filled in during the completion of an access guide.
outputs: []
END
mkdir -p /var/lib/teleport/bot
chown teleport:teleport /var/lib/teleport/bot
step untrusted runuser -u teleport -- tbot start -c /etc/tbot.yaml --oneshot
# Of the public CAs none is needed, and each takes an emulated machine a second.
: >/etc/ca-certificates.conf
cp /root/pki/root.crt /usr/local/share/ca-certificates/private-root.crt
quiet_step trust update-ca-certificates
step check agent check
cat >/etc/systemd/system/tbot.service <<'END'
[Unit]
Description=Teleport Machine ID Service
After=network.target

[Service]
Type=simple
User=teleport
Group=teleport
Restart=on-failure
Environment="TELEPORT_ANONYMOUS_TELEMETRY=1"
ExecStart=/usr/local/bin/tbot start -c /etc/tbot.yaml
ExecReload=/bin/kill -HUP $MAINPID
PIDFile=/run/tbot.pid
LimitNOFILE=524288

[Install]
WantedBy=multi-user.target
END
step daemon-reload systemctl daemon-reload
step enable systemctl enable tbot
step start systemctl start tbot
await healthy healthy
step status systemctl status --no-pager --full tbot
step identity tbot status --storage /var/lib/teleport/bot

# The guide to access by SSH.
cat >role.yaml <<'END'
kind: role
version: v6
metadata:
  name: example-role
spec:
  allow:
    logins: ['root']
    node_labels:
      '*': '*'
END
step role tctl create -f ./role.yaml
step add-roles tctl bots update example --add-roles example-role
step add-logins tctl bots update example --add-logins root
sed -i '/outputs/d' /etc/tbot.yaml
cat >>/etc/tbot.yaml <<'END'
services:
- type: identity
  destination:
    type: directory
    # For this guide, /opt/machine-id is used as the destination directory.
    path: /opt/machine-id
END
mkdir -p /opt/machine-id
chown teleport:teleport /opt/machine-id
step restart systemctl restart tbot
await written test -e /opt/machine-id/identity
await healthy-too healthy
step output ls -1 /opt/machine-id
step subject openssl x509 -in /opt/machine-id/tlscert -noout -subject -nameopt multiline
step chain openssl verify -CAfile /opt/machine-id/teleport-user-ca.crt /opt/machine-id/tlscert
step key openssl pkey -in /opt/machine-id/key -pubout
step certified openssl x509 -in /opt/machine-id/tlscert -noout -pubkey
step ssh-certificate cat /opt/machine-id/key-cert.pub
step ssh-config cat /opt/machine-id/ssh_config
step known-hosts cat /opt/machine-id/known_hosts

# A renewal.
step before tctl bots instances ls --format json
count=$(renewals tbot)
step reload systemctl reload tbot
await renewed renewed tbot "$count"
await healthy-again healthy
step after tctl bots instances ls --format json

# What tctl shows, and that it takes it back.
step bots tctl bots ls
step tokens tctl tokens ls
step instances tctl bots instances ls
id=$(tctl bots instances ls --format json | sed -n 's/.*"instance_id": *"\([^"]*\)".*/\1/p')
step instance tctl bots instances show "example/$id"
step get-bot tctl get bot/example
step get-token tctl get token/my-bot-token
tctl get all >resources.yaml
step back tctl create -f resources.yaml
step same sh -c 'tctl get all | cmp resources.yaml'

# The unit that tbot writes itself, as its newer guide has it.
step unit tbot install systemd --write --force --config /etc/tbot.yaml --user teleport --group teleport --anonymous-telemetry
step unit-verify systemd-analyze verify --man=no /etc/systemd/system/tbot.service
step unit-reload systemctl daemon-reload
step unit-start systemctl restart tbot
step unit-status systemctl status --no-pager --full tbot
step unit-same tctl bots instances ls --format json
step unit-enabled systemctl is-enabled tbot
step journal journalctl -u tbot -u endorse-authority --no-pager -o short

# One-shot mode, and the end of the bot.
systemctl stop tbot
step oneshot runuser -u teleport -- tbot start -c /etc/tbot.yaml --oneshot
step rm tctl bots rm example
step removed runuser -u teleport -- tbot start -c /etc/tbot.yaml --oneshot --storage=memory:
step why authority audit ls --refused
step failed systemctl --failed --no-legend
record handles '' handles
exit 0
