/** What `--help` prints, by command; the empty name is the program itself. */
export const help = {
  '': `ssh -o ProxyCommand='postern connect %h %p' box.corp

postern takes SSH through the web server's door: it is the ProxyCommand of ssh,
and the SSH session stays end to end.

Commands:
  connect <host> [<port>]   open a tunnel; stdin and stdout are the SSH stream
  status                    who you are, at which gateway, until when
  setup                     make ssh use postern for the hosts you name

Options:
  -h, --help                this text; also after a command
  --version                 the version

Environment:
  POSTERN_GATEWAY           URL of the gateway, like https://gw.example/ssh/
  POSTERN_TOKEN_FILE        file with the token
  POSTERN_TOKEN             the token itself; a file is safer
  POSTERN_CA_FILE           more certificates to trust, in PEM
  HTTPS_PROXY, ALL_PROXY, NO_PROXY
                            the way out of a company network
`,
  connect: `ssh -o ProxyCommand='postern connect %h %p' box.corp

Usage: postern connect [options] [--] <host> [<port>]

Opens a tunnel to host:port (22 if not said) through the gateway. stdin and
stdout are the SSH stream; stderr says what went wrong and in which layer.
An IPv6 address is written without brackets, as ssh gives it.

Options:
  --gateway URL      the gateway, like https://gw.example/ssh/
  --via ENTRY        websocket, connect-tcp or connect. Without it each is
                     tried, first the one that worked here last time
  --token-file FILE  file with the token
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

A proxy is taken from HTTPS_PROXY (else ALL_PROXY) unless NO_PROXY names the
gateway: http://[user:password@]host[:port], or https:// for TLS to the proxy.

Exit codes: 0 the session has ended, 2 usage, 69 gateway or target unavailable,
75 temporary, 77 not signed in or denied, 78 configuration, 1 anything else.
`,
  status: `postern status

Usage: postern status [--json] [--gateway URL] [--token-file FILE]

Says who you are, at which gateway and until when, as your token has it, and
what went wrong in the last connect that failed. Asks nobody.

Options:
  --json             the same for programs
  --gateway URL      another gateway than the one set up
  --token-file FILE  file with the token
  -h, --help         this text

Exit codes: 0 there is a token that has not expired, 77 there is none,
78 configuration.
`,
  setup: `postern setup --gateway https://gw.example/ssh/ --host '*.corp.example'

Usage: postern setup [options]

Writes config.json and ssh_config into ~/.config/postern, and one Include line
at the top of ~/.ssh/config. Nothing else there is touched. Run it again to
change something: what is not said stays as it is.

Options:
  --gateway URL      the gateway
  --host PATTERN     hosts to reach through it, as in ssh_config (letters,
                     digits, - . * ?); may be repeated
  --ca-file FILE     more certificates to trust, in PEM
  --dry-run          print what would change, change nothing
  --remove           undo: take the line and the files away again
  -h, --help         this text

With other programs:
  git, hg, rsync, scp, sftp   use ssh and its configuration: nothing to do
  VS Code Remote-SSH          the same; get a token first, it shows no prompts
  Ansible                     the same; for hosts that are not set up:
                              ansible_ssh_common_args: >-
                                -o ProxyCommand="postern connect %h %p"
  PuTTY, plink, psftp         Connection > Proxy > type Local, command:
                              postern connect %host %port
                              or: plink -proxycmd "postern connect %host %port" box
  WinSCP                      Advanced > Connection > Proxy > type Local, same command

On Windows write both full paths, in double quotes, with doubled backslashes:
"C:\\\\Program Files\\\\nodejs\\\\node.exe" "C:\\\\tools\\\\postern.cjs" connect %host %port

The Host block sets ConnectTimeout 45: postern gives up after 30 seconds and
says which layer failed, and a shorter limit of ssh would hide that.
`,
} as const satisfies Record<string, string>;

/** A command that has a help text. */
export type HelpTopic = keyof typeof help;
