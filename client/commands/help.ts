import { entryNames } from '../../protocol/entries.ts';

/** `relay, websocket, connect-tcp, connect or http`. */
const entryList = `${entryNames.slice(0, -1).join(', ')} or ${entryNames.at(-1)}`;

/** What `--help` prints, by command; the empty name is the program itself. */
export const help = {
  '': `ssh -o ProxyCommand='postern connect %h %p' box.corp

postern takes SSH through the web server's door: it is the ProxyCommand of ssh,
and the SSH session stays end to end.

Commands:
  setup                     make ssh use postern for the hosts you name
  login [<gateway>]         sign in with the browser
  logout [<gateway>]        sign out
  status                    who you are, at which gateway, until when
  hosts                     what you may reach
  doctor [<host>]           what is in the way, layer by layer, and what to do
  ticket <host>...          a password for programs that know nothing else
  connect <host> [<port>]   open a tunnel; stdin and stdout are the SSH stream
  listen                    tunnels for programs that know only SOCKS, an HTTP
                            proxy or a port; starts no process for each

Options:
  -h, --help                this text; after a command, that of the command
  --version                 the version

Environment:
  POSTERN_GATEWAY           URL of the gateway, like https://gw.example/ssh/
  POSTERN_TOKEN_FILE        file with a token, instead of signing in
  POSTERN_TOKEN             the token itself; a file is safer
  POSTERN_CA_FILE           more certificates to trust, in PEM
  HTTPS_PROXY, ALL_PROXY, NO_PROXY, POSTERN_PAC
                            the way out of a company network
  POSTERN_PROXY_USER, POSTERN_PROXY_PASSWORD
                            who you are to its proxy; DOMAIN\\user for NTLM
  POSTERN_SYSTEM_PROXY=0    do not ask the system for its proxy settings
  BROWSER                   command that opens a URL, not the system's own
  POSTERN_NO_INPUT=1, CI=1  nobody is there to be asked: never open a browser
`,
  connect: `ssh -o ProxyCommand='postern connect %h %p' box.corp

Usage: postern connect [options] [--] <host> [<port>]

Opens a tunnel to host:port (22 if not said) through the gateway. stdin and
stdout are the SSH stream; stderr says what went wrong and in which layer.
An IPv6 address is written without brackets, as ssh gives it.

Where nobody has signed in yet and there is a terminal, the browser opens first.
Otherwise that is an error at once; sign in beforehand: postern login

Options:
  --gateway URL      the gateway, like https://gw.example/ssh/
  --via ENTRY        ${entryList}. Without it
                     each is tried, first the one that worked here last time
  --token-file FILE  file with the token
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

A proxy is taken from POSTERN_PAC (a PAC file), else from HTTPS_PROXY or
ALL_PROXY: [scheme://][user:password@]host[:port] with http, https (TLS to the
proxy), socks5h, socks5, socks4a or socks4; else from the system's settings.
What NO_PROXY names is reached without one.
One that wants a sign-in gets it by Kerberos, NTLM, Digest or Basic; name and
password come from its URL, from POSTERN_PROXY_USER and POSTERN_PROXY_PASSWORD,
from the keychain of the system, or from you at the terminal.

Exit codes: 0 the session has ended, 2 usage, 69 gateway or target unavailable,
75 temporary, 77 not signed in or denied, 78 configuration, 1 anything else.
`,
  login: `postern login https://gw.example/ssh/

Usage: postern login [options] [<gateway>]

Opens the browser to sign in, and keeps the sign-in for ssh and the other
commands. Its key never leaves this machine. The first gateway that you sign in
at becomes the one that is meant where none is named.

Options:
  --no-browser       open no browser, only print the URL. It has to be opened on
                     this machine: the browser comes back to it
  --device           for a machine without a browser: print a code, to be typed
                     in a browser anywhere. The gateway has to allow it
  --gateway URL      the same as <gateway>
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

Of several that want to sign in at once, one does; the others wait for it.

Exit codes: 0 signed in, 2 usage, 69 gateway unavailable, 75 nobody signed in
in time, 77 refused, 78 configuration.
`,
  logout: `postern logout

Usage: postern logout [options] [<gateway>]

Forgets the sign-in on this machine, and has the gateway end it: open tunnels
that it began end too. When the gateway cannot be told, the sign-in here is
forgotten all the same.

Options:
  --gateway URL      the same as <gateway>
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 signed out, or you were not signed in; 69 or 75 the gateway could
not be told.
`,
  status: `postern status

Usage: postern status [options]

Says who you are, at which gateway and until when, which tunnels you have open,
and what went wrong in the last connect that failed. Asks the gateway; when that
cannot be reached, says what is known here.

Options:
  --json             the same for programs
  --offline          do not ask the gateway
  --gateway URL      another gateway than the one set up
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 you are signed in, 77 you are not, 69 or 75 the gateway could not
be asked, 78 configuration.
`,
  hosts: `postern hosts

Usage: postern hosts [options]

Says what you may reach, one host:port on each line, as the gateway has it now.
A * stands for any name.

Options:
  --json             the same for programs
  --gateway URL      another gateway than the one set up
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text
`,
  ticket: `postern ticket box --ttl 5m

Usage: postern ticket [options] <host[:port]>...

Prints a ticket: a password for a program that can send one to an HTTP proxy
and knows nothing of sign-ins. Any user name goes with it. It opens tunnels to
these hosts only, a few times and for a short while.

Options:
  --ttl TIME         how long it is good: 90s, 5m, 1h (default: 5m)
  --uses N           for how many tunnels (default: 1)
  --json             the same for programs
  --gateway URL      another gateway than the one set up
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text
`,
  doctor: `postern doctor box

Usage: postern doctor [options] [<host> [<port>]]

Walks the path to the gateway and on to the host, layer by layer, and says of
each whether it is good, what it means when it is not, and what to do:
  \u2713 good   ! works, but something is lost   \u2717 in the way   \u2013 not checked

Goes as far as it can without a sign-in. Takes at most half a minute; Ctrl-C
prints what is there.

Options:
  --idle             also measure after how long idle connections are cut, which
                     takes up to five minutes
  --report FILE      write the same into a file that can be sent to others:
                     without tokens, passwords, cookies, and your user name
  --json             the same for programs
  --gateway URL      another gateway than the one set up
  --token-file FILE  file with a token, instead of the sign-in
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

Exit codes: 0 ssh would work, else that of the first thing in the way, as
"postern connect" would exit: 69, 75, 77, 78; 130 after Ctrl-C.
`,
  listen: `postern listen -L 2222:box:22 --listen 1080

Usage: postern listen [options]

Takes connections of programs on this machine and leads each through the gateway
by a tunnel of its own. One port speaks SOCKS5, SOCKS4a and HTTP CONNECT. Runs
until Ctrl-C, SIGTERM or SIGHUP, which end all tunnels. Prints a line for each
place as soon as all of them listen.

Options:
  --listen PORT      or 127.0.0.1:PORT, [::1]:PORT; 0 is any free port. Without
                     --listen, --socket and -L it is 1080
  --socket PATH      the same on a unix socket that only you can open
  -L, --forward PORT:HOST:PORT
                     what connects there is led to this host and port, like
                     2222:box:22; also PATH:HOST:PORT for a unix socket
  --password-file FILE
                     programs have to say this password, with any user name.
                     Where there is no such file, one is written
  --any-user         let programs of other users in as well
  --most-connections N
                     at once (default: 1000)
  --json             events on stdout, as one JSON object on each line
  --gateway URL      the gateway, like https://gw.example/ssh/
  --via ENTRY        ${entryList}
  --token-file FILE  file with the token
  --ca-file FILE     more certificates to trust, in PEM
  -h, --help         this text

Every user of a machine can reach its loopback ports. On Linux the kernel tells
whose program it is, and only yours and root's get in. Elsewhere use --socket or
a password; -L on a port cannot ask for one.

Environment:
  POSTERN_LISTEN_PASSWORD
                     the password itself; a file is safer

With ssh, where starting postern for each connection takes too long:
  ProxyCommand nc -X connect -x 127.0.0.1:1080 %h %p
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
  VS Code Remote-SSH          the same; sign in first, it shows no prompts
  Ansible                     the same; for hosts that are not set up:
                              ansible_ssh_common_args: >-
                                -o ProxyCommand="postern connect %h %p"
                              for hundreds of hosts: postern listen --help
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
