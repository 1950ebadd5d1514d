import type { Config } from '../config/config.ts';
import { formatTarget } from '../../protocol/target.ts';

/** Web servers and proxies that can be in front of a gateway. */
export type FrontName = 'nginx' | 'haproxy' | 'caddy' | 'apache';

const all: readonly FrontName[] = ['nginx', 'haproxy', 'caddy', 'apache'];

/** Settings that a configuration can lack. */
export type Topic = 'prefix' | 'upgrade' | 'connect-tcp' | 'idle' | 'address' | 'headers' | 'buffering';

type Lines = (context: Pick<Config, 'publicUrl' | 'listen'>) => string;

/** The line that fixes it, for each; `print-config` prints the whole configuration. */
const lines: Readonly<Record<Topic, Readonly<Record<FrontName, Lines>>>> = {
  prefix: {
    nginx: (config) => `location ${config.publicUrl.pathname} { proxy_pass ${upstreamOf(config)}; … }`,
    haproxy: (config) => `acl postern_path path_beg ${config.publicUrl.pathname}`,
    caddy: (config) => `handle ${config.publicUrl.pathname}* { reverse_proxy ${upstreamOf(config)} }`,
    apache: (config) =>
      `ProxyPass "${config.publicUrl.pathname}" "${upstreamOf(config)}${config.publicUrl.pathname}" upgrade=ANY nocanon`,
  },
  upgrade: {
    nginx: () =>
      'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;',
    haproxy: () =>
      'it forwards Upgrade by itself: look for http-request del-header Upgrade, and for option httpclose',
    caddy: () => 'it forwards Upgrade by itself: look for request_header -Upgrade, or header_up -Upgrade',
    apache: () => 'ProxyPass … upgrade=ANY',
  },
  'connect-tcp': {
    nginx: () => 'in the map of $http_upgrade: connect-tcp connect-tcp;',
    haproxy: () => 'acl postern_upgrade req.fhdr(upgrade) -i websocket connect-tcp',
    caddy: () => 'not header_regexp Upgrade (?i)^(websocket|connect-tcp)$',
    apache: () => 'ProxyPass … upgrade=ANY',
  },
  idle: {
    nginx: () => 'proxy_read_timeout 1h; proxy_send_timeout 1h;',
    haproxy: () => 'timeout tunnel 1h',
    caddy: () => 'it has none by default: look for stream_timeout, read_timeout, write_timeout',
    apache: () => 'ProxyPass … timeout=3600',
  },
  address: {
    nginx: () => 'proxy_set_header X-Forwarded-For $remote_addr;',
    haproxy: () => 'http-request set-header X-Forwarded-For %[src]',
    caddy: () => 'it replaces X-Forwarded-For by itself: look for trusted_proxies',
    apache: () => 'RequestHeader unset X-Forwarded-For early',
  },
  headers: {
    nginx: () => 'large_client_header_buffers 4 16k;',
    haproxy: () => 'tune.bufsize 32768',
    caddy: () => 'servers { max_header_size 64KB }',
    apache: () => 'LimitRequestFieldSize 16380',
  },
  buffering: {
    nginx: () => 'proxy_buffering off;',
    haproxy: () => 'no option http-buffer-request',
    caddy: () => 'flush_interval -1',
    apache: () => 'ProxyPass … flushpackets=On',
  },
};

/** The lines for the configuration of `front`, or of each server where it is unknown. */
export function linesFor(
  topic: Topic,
  front: FrontName | undefined,
  config: Pick<Config, 'publicUrl' | 'listen'>,
): readonly string[] {
  const named = front === undefined ? all : [front];
  return named.map((name) => `${name}: ${lines[topic][name](config)}`);
}

/** The server that this `Server` field names. HAProxy does not identify itself. */
export function frontIn(server: string | undefined): FrontName | undefined {
  return all.find((name) => server?.toLowerCase().includes(name));
}

function upstreamOf({ listen }: Pick<Config, 'listen'>): string {
  return listen.kind === 'unix' ? `http://unix:${listen.path}` : `http://${formatTarget(listen)}`;
}
