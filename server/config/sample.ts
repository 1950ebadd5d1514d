/** A `postern.yaml` to start from: one target, the SSH server of this machine, for the holders of the gateway's own tokens. */
export function defaultConfigText(): string {
  return `# yaml-language-server: $schema=./deploy/postern.schema.json
# The settings of the gateway. Check them with: postern-gateway check
# The environment can override each of them: POSTERN__LIMITS__PER_SUBJECT=50

# The HTTP listener, to which the web proxy in front (nginx, HAProxy ...) forwards /ssh/.
listen: 127.0.0.1:8022
# Health, readiness and metrics. Never make this public.
admin: 127.0.0.1:9464
# For postern-gateway sessions and kill, on this machine only.
control: unix:./postern-control.sock
# Number of processes that take tunnels: one for each core that they can use.
workers: 1
# The URL at which clients reach the gateway; its path ends in /.
publicUrl: http://127.0.0.1:8022/ssh/
# The peers whose X-Forwarded-For is trusted: the web proxy on this machine.
trustedProxies: [127.0.0.0/8, "::1"]

# The gateway's own signing key, created when first needed. For a token: postern-gateway token --subject you --group dev
keyFile: ./postern-key.json
# Accounts, sign-ins, tickets and revocations.
store: { file: ./postern.db }
# Users sign in with: postern login. To create an account: postern-gateway user add you --group dev
signIn:
  accounts: true
  sessionHours: 12
#  providers:
#    - { name: corp, title: Example Corp, issuer: https://id.example, clientId: postern, clientSecretFile: ./corp.secret }
# Other trusted token issuers.
issuers: []
#  - issuer: https://id.example
#    audience: postern
#    groupsClaim: groups
#    algorithms: [ES256, EdDSA, RS256]

# Names that users connect to, and their addresses.
targets:
  box: { address: 127.0.0.1:22 }

# Which targets each principal can reach. Everything else is denied.
rules:
  - { groups: [dev], targets: [box] }
#  - { subjects: [ci-bot], targets: ["git.example:22"] }

# Addresses that can be dialled at all. Loopback, link-local and metadata addresses have to be listed one by one.
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

# One line for every request for a tunnel. required: no record, no tunnel.
audit: { file: ./audit.jsonl, required: true }
log: { level: info }
`;
}
