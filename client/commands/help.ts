import { entryNames } from '../../protocol/entries.ts';

/** `relay, websocket, connect-tcp, connect or http`. */
const entryList = `${entryNames.slice(0, -1).join(', ')} or ${entryNames.at(-1)}`;

/** The output of `--help` by command; the empty name is the program itself. */
export const help = {
  '': `ssh -o ProxyCommand='postern connect %h %p' box.corp

postern carries SSH through a web server, on port 443: as the ProxyCommand of
ssh. The SSH session stays encrypted end to end.

Commands:
  setup                     configure ssh to use postern for the hosts you name
  login [<gateway>]         sign in with the browser
  logout [<gateway>]        sign out
  status                    your sign-in, its expiry and your open tunnels
  hosts                     the hosts that you can reach
  doctor [<host>]           check the connection step by step, and explain fixes
  ticket <host>...          a one-time password for programs that cannot sign in
  connect <host> [<port>]   open a tunnel; stdin and stdout are the SSH stream
  listen                    a local SOCKS and HTTP proxy, and forwarded
                            ports, for other programs

Options:
  -h, --help                this text; after a command, the help of that command
  --version                 print the version

Environment:
  POSTERN_GATEWAY           URL of the gateway, like https://gw.example/ssh/
  POSTERN_TOKEN_FILE        file with a token, instead of a sign-in
  POSTERN_TOKEN             the token itself; a file is safer
  POSTERN_CA_FILE           additional CA certificates to trust, in PEM
  HTTPS_PROXY, ALL_PROXY, NO_PROXY, POSTERN_PAC
                            the proxy of a company network
  POSTERN_PROXY_USER, POSTERN_PROXY_PASSWORD
                            your sign-in to that proxy; DOMAIN\\user for NTLM
  POSTERN_SYSTEM_PROXY=0    ignore the proxy settings of the system
  BROWSER                   command that opens a URL, instead of the system's
  POSTERN_NO_INPUT=1, CI=1  no user is present: never prompt or open a browser
`,
  connect: `ssh -o ProxyCommand='postern connect %h %p' box.corp

Usage: postern connect [options] [--] <host> [<port>]

Opens a tunnel to host:port (default: 22) through the gateway. stdin and stdout
are the SSH stream; errors, with the layer that failed, go to stderr.
Write an IPv6 address without brackets, as ssh does.

If you are not signed in and there is a terminal, the browser opens first.
Without a terminal, that is an error; sign in beforehand: postern login

Options:
  --gateway URL      the gateway, like https://gw.example/ssh/
  --via ENTRY        ${entryList}. Without it
                     all are tried, first the one that worked here last time
  --token-file FILE  file with a token
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

The proxy is configured by POSTERN_PAC (a PAC file), else by HTTPS_PROXY or
ALL_PROXY: [scheme://][user:password@]host[:port] with http, https (TLS to the
proxy), socks5h, socks5, socks4a or socks4; else by the system's settings.
Hosts in NO_PROXY are reached without a proxy.
If the proxy requires a sign-in, postern uses Kerberos, NTLM, Digest or Basic;
user name and password come from the proxy URL, from POSTERN_PROXY_USER and
POSTERN_PROXY_PASSWORD, from the system keychain, or from a prompt.

Exit codes: 0 the session has ended, 2 usage, 69 gateway or target unavailable,
74 the output cannot be written, 75 temporary, 77 not signed in or denied,
78 configuration, 1 anything else.
`,
  login: `postern login https://gw.example/ssh/

Usage: postern login [options] [<gateway>]

Opens the browser to sign in, and keeps the sign-in for ssh and the other
commands. Its key never leaves this machine. The first gateway you sign in to
becomes the default.

Options:
  --no-browser       print the URL instead of opening a browser. Open it on this
                     machine: the browser returns to it
  --device           for a machine without a browser: print a code to enter in
                     a browser anywhere. The gateway has to allow it
  --gateway URL      the same as <gateway>
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

If several commands need a sign-in at once, one signs in and the others wait.

Exit codes: 0 signed in, 2 usage, 69 gateway unavailable, 75 no sign-in
within the time limit, 77 refused, 78 configuration.
`,
  logout: `postern logout

Usage: postern logout [options] [<gateway>]

Deletes the sign-in on this machine and ends it at the gateway, with its open
tunnels. If the gateway cannot be reached, the sign-in here is deleted anyway.

Options:
  --gateway URL      the same as <gateway>
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 signed out, or you were not signed in; 69 or 75 the gateway could
not be reached.
`,
  status: `postern status

Usage: postern status [options]

Prints your identity at the gateway, the expiry of your sign-in, your open
tunnels and the last connection error. Queries the gateway; if it cannot be
reached, prints what is known on this machine.

Options:
  --json             output for programs
  --offline          do not query the gateway
  --gateway URL      use another gateway than the default
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 you are signed in, 77 you are not, 69 or 75 the gateway could not
be reached, 78 configuration.
`,
  hosts: `postern hosts

Usage: postern hosts [options]

Prints the hosts that the gateway's rules allow you to reach now, one host:port
per line. A * stands for any name.

Options:
  --json             output for programs
  --gateway URL      use another gateway than the default
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text
`,
  ticket: `postern ticket box --ttl 5m

Usage: postern ticket [options] <host[:port]>...

Prints a ticket: a password for programs that can authenticate to an HTTP proxy
but cannot sign in. Any user name works with it. It opens tunnels to these hosts
only, a limited number of times and for a short time.

Options:
  --ttl TIME         how long it is valid: 90s, 5m, 1h (default: 5m)
  --uses N           how many tunnels it opens (default: 1)
  --json             output for programs
  --gateway URL      use another gateway than the default
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text
`,
  doctor: `postern doctor box

Usage: postern doctor [options] [<host> [<port>]]

Checks the path to the gateway and on to the host, layer by layer. Explains each
problem and how to fix it:
  \u2713 works   ! works, but something is lost   \u2717 broken   \u2013 not checked

Without a sign-in, it checks as much as it can. Takes half a minute at most;
Ctrl-C prints the results so far.

Options:
  --idle             also measure when idle connections are cut, which takes up
                     to five minutes
  --report FILE      write a report that you can share: without tokens,
                     passwords, cookies and your user name
  --json             output for programs
  --gateway URL      use another gateway than the default
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 ssh would work; otherwise the code of the first problem, as in
"postern connect": 69, 75, 77, 78; 130 after Ctrl-C.
`,
  listen: `postern listen -L 2222:box:22 --listen 1080

Usage: postern listen [options]

Accepts connections from programs on this machine and opens a tunnel through the
gateway for each. One port serves SOCKS5, SOCKS4a and HTTP CONNECT. Runs until
Ctrl-C, SIGTERM or SIGHUP, which end all tunnels. Prints a line per address as
soon as it listens on all of them.

Options:
  --listen PORT      or 127.0.0.1:PORT, [::1]:PORT; 0 is any free port. The
                     default, without --socket and -L, is 1080
  --socket PATH      listen on a unix socket that only you can open
  -L, --forward PORT:HOST:PORT
                     forward connections to this host and port, like
                     2222:box:22; or PATH:HOST:PORT for a unix socket
  --password-file FILE
                     require this password from programs, with any user name.
                     If the file does not exist, it is created
  --any-user         also accept programs of other users
  --most-connections N
                     maximum number of connections (default: 1000)
  --json             events on stdout, one JSON object per line
  --gateway URL      the gateway, like https://gw.example/ssh/
  --via ENTRY        ${entryList}
  --token-file FILE  file with a token
  --ca-file FILE     additional CA certificates to trust, in PEM
  -h, --help         this text

Every user of a machine can connect to its loopback ports. On Linux, postern
accepts only your own programs and root's. Elsewhere, use --socket or a
password; -L with a port cannot require one.

Environment:
  POSTERN_LISTEN_PASSWORD
                     the password itself; a file is safer

For ssh, if starting postern for each connection takes too long:
  ProxyCommand nc -X connect -x 127.0.0.1:1080 %h %p
`,
  setup: `postern setup --gateway https://gw.example/ssh/ --host '*.corp.example'

Usage: postern setup [options]

Writes config.json and ssh_config to ~/.config/postern, and one Include line at
the top of ~/.ssh/config. Nothing else there is changed. Run it again to change
settings: options that you leave out stay as they are.

Options:
  --gateway URL      the gateway
  --host PATTERN     hosts to reach through it, as in ssh_config (letters,
                     digits, - _ . * ?), with :port if ssh is to use another
                     port than 22; can be repeated
  --ca-file FILE     additional CA certificates to trust, in PEM
  --dry-run          print the changes without making them
  --remove           undo: remove the line and the files again
  -h, --help         this text

Other programs:
  git, hg, rsync, scp, sftp   use ssh and its configuration: nothing to do
  VS Code Remote-SSH          the same; sign in first: it shows no prompts
  Ansible                     the same; for other hosts:
                              ansible_ssh_common_args: >-
                                -o ProxyCommand="postern connect %h %p"
                              for hundreds of hosts: postern listen --help
  PuTTY, plink, psftp         Connection > Proxy > type Local, command:
                              postern connect %host %port
                              or: plink -proxycmd "postern connect %host %port" box
  WinSCP                      Advanced > Connection > Proxy > type Local, same command

On Windows, write both full paths, in double quotes, with doubled backslashes:
"C:\\\\Program Files\\\\nodejs\\\\node.exe" "C:\\\\tools\\\\postern.cjs" connect %host %port

The Host block sets ConnectTimeout 45: postern gives up after 30 seconds and
names the layer that failed, which a shorter timeout of ssh would hide.
`,
} as const satisfies Record<string, string>;

/** A command that has a help text. */
export type HelpTopic = keyof typeof help;
