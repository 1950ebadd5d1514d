/** A `postern.yaml` to start from: one target, the SSH server of this machine, for the holders of the gateway's own tokens. */
export function defaultConfigText(): string {
  return `# yaml-language-server: $schema=./deploy/postern.schema.json
# The settings of the gateway. Check them with: postern-gateway check
# Every setting can be given by the environment too: POSTERN__LIMITS__PER_SUBJECT=50

# The HTTP door, for the web proxy before it (nginx, HAProxy ...) to pass /ssh/ to.
listen: 127.0.0.1:8022
# Health, readiness and metrics. Never put this on the public door.
admin: 127.0.0.1:9464
# For postern-gateway sessions and kill, on this machine only.
control: unix:./postern-control.sock
# How many processes take tunnels: one for each core that is to do so.
workers: 1
# Where people reach the gateway; the path ends in /.
publicUrl: http://127.0.0.1:8022/ssh/
# Whose X-Forwarded-For is believed: the web proxy on this machine.
trustedProxies: [127.0.0.0/8, "::1"]

# The gateway's own key, made at first need. Its tokens come from: postern-gateway token --subject you --group dev
keyFile: ./postern-key.json
# Accounts, sign-ins, tickets and revocations.
store: { file: ./postern.db }
# People sign in with: postern login. Their accounts come from: postern-gateway user add you --group dev
signIn:
  accounts: true
  sessionHours: 12
#  providers:
#    - { name: corp, title: Example Corp, issuer: https://id.example, clientId: postern, clientSecretFile: ./corp.secret }
# Whose tokens are believed besides.
issuers: []
#  - issuer: https://id.example
#    audience: postern
#    groupsClaim: groups
#    algorithms: [ES256, EdDSA, RS256]

# Names and the addresses they stand for.
targets:
  box: { address: 127.0.0.1:22 }

# Who may reach what. What no rule allows is denied.
rules:
  - { groups: [dev], targets: [box] }
#  - { subjects: [ci-bot], targets: ["git.example:22"] }

# What may be dialled at all. Loopback, link-local and metadata addresses have to be listed one by one.
network:
  allow: [127.0.0.1/32]

limits:
  tunnels: 8000
  perSubject: 100
  perAddress: 200
  preAuthSeconds: 10
  dialSeconds: 10
  sessionHours: 12
  graceSeconds: 30

# One line for each request for a tunnel. required: no record, no tunnel.
audit: { file: ./audit.jsonl, required: true }
log: { level: info }
`;
}
