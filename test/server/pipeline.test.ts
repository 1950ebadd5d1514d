import assert from 'node:assert/strict';
import { once } from 'node:events';
import { performance } from 'node:perf_hooks';
import { after, before, describe, it } from 'node:test';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { TunnelHandle } from '../../server/resume/tunnel-locator.ts';
import { generousLimits, tokenAuthenticator } from './support/gateway-parts.ts';
import { createWorld } from './support/pipeline-parts.ts';
import type { World, WorldOptions } from './support/pipeline-parts.ts';

const fail = (code: TunnelErrorCode) => (): never => {
  throw new TunnelError(code, 'a test');
};
const failing = (code: TunnelErrorCode) => (): Promise<never> =>
  Promise.reject(new TunnelError(code, 'a test'));
const hang = (): Promise<never> => new Promise(() => {});
const everySession = (): boolean => true;

const refusals: Readonly<Record<string, { readonly options: WorldOptions; readonly code: TunnelErrorCode }>> =
  {
    'a gateway that is stopping': { options: { draining: true }, code: 'DRAINING' },
    'all tunnels taken': { options: { limits: { ...generousLimits, tunnels: 0 } }, code: 'LIMIT_TUNNELS' },
    'an address at its limit': {
      options: { limits: { ...generousLimits, perAddress: 0 } },
      code: 'LIMIT_ADDRESS',
    },
    'a target that cannot be read': { options: { requested: 'a b' }, code: 'TARGET_INVALID' },
    'credentials that are not accepted': {
      options: { authenticator: tokenAuthenticator(failing('TOKEN_INVALID')) },
      code: 'TOKEN_INVALID',
    },
    'an authenticator that fails': {
      options: { authenticator: tokenAuthenticator(() => Promise.reject(new RangeError('a test'))) },
      code: 'INTERNAL',
    },
    'an authenticator that hangs': {
      options: { authenticator: tokenAuthenticator(hang), limits: { ...generousLimits, preAuthMs: 10 } },
      code: 'SIGN_IN_TIMEOUT',
    },
    'a revoked principal': { options: { isRevoked: true }, code: 'TOKEN_INVALID' },
    'a target that no rule allows': {
      options: { policy: { decide: fail('TARGET_DENIED') } },
      code: 'TARGET_DENIED',
    },
    'a principal at its limit': {
      options: { limits: { ...generousLimits, perSubject: 0 } },
      code: 'LIMIT_SUBJECT',
    },
    'a revocation while the principal is counted': {
      options: { count: ({ context }) => void context.sessions.endWhere(everySession, 'REVOKED', 'a test') },
      code: 'TOKEN_INVALID',
    },
    'a kill while the target is dialled': {
      options: {
        dial({ context }) {
          context.sessions.endWhere(everySession, 'KILLED', 'a test');
          return failing('DIAL_TIMEOUT')();
        },
      },
      code: 'TUNNEL_KILLED',
    },
    'a stop while the target is dialled': {
      options: {
        dial({ context }) {
          context.sessions.endAll('GATEWAY_STOPPED');
          return failing('DIAL_TIMEOUT')();
        },
      },
      code: 'DRAINING',
    },
    'a target that refuses': { options: { dial: failing('DIAL_REFUSED') }, code: 'DIAL_REFUSED' },
    'an audit log that cannot be written': {
      options: { opening: failing('AUDIT_UNAVAILABLE') },
      code: 'AUDIT_UNAVAILABLE',
    },
  };

// The doubles hold nothing open, and the timers of the pipeline do not either.
let keepAlive: NodeJS.Timeout;
before(() => (keepAlive = setInterval(() => {}, 1000)));
after(() => clearInterval(keepAlive));

describe('openTunnel() refuses', () => {
  for (const [name, { options, code }] of Object.entries(refusals)) {
    describe(`for ${name}`, () => {
      it(`with ${code}, once`, async () => {
        const world = createWorld(options);
        await world.open();
        assert.deepEqual(
          world.answers.map((answer) => answer.code),
          [code],
        );
      });

      it('and ends the session with that code, once', async () => {
        const world = createWorld(options);
        await world.open();
        assert.deepEqual(
          world.ended.map(({ end }) => end),
          [code],
        );
      });

      it('and releases every limit', async () => {
        const world = createWorld(options);
        await world.open();
        assert.equal(world.held(), 0);
      });

      it('and leaves no connection to the target', async () => {
        const world = createWorld(options);
        await world.open();
        assert.ok(world.targets.every(({ destroyed }) => destroyed));
      });

      it('and neither accepts nor records an open tunnel', async () => {
        const world = createWorld(options);
        await world.open();
        assert.deepEqual(
          world.events.filter((event) => event === 'accepted' || event === 'opened'),
          [],
        );
      });
    });
  }

  it('with the challenge of its authenticator', async () => {
    const world = createWorld(refusals['credentials that are not accepted']!.options);
    await world.open();
    assert.deepEqual(world.answers[0]!.challenge, world.settings.authenticator.challenge);
  });

  it('and gives the log and the audit the cause', async () => {
    const cause = new Error('the signature is wrong');
    const world = createWorld({
      authenticator: tokenAuthenticator(() =>
        Promise.reject(new TunnelError('TOKEN_INVALID', 'refused', { cause })),
      ),
    });
    await world.open();
    assert.equal(world.ended[0]!.reason, 'refused: the signature is wrong');
  });

  it('a revoked principal without asking the policy', async () => {
    const world = createWorld({ isRevoked: true, policy: { decide: () => assert.fail('asked') } });
    await world.open();
    assert.equal(world.ended[0]!.end, 'TOKEN_INVALID');
  });

  it('a revocation that comes while the principal is counted, before it dials', async () => {
    const world = createWorld(refusals['a revocation while the principal is counted']!.options);
    await world.open();
    assert.deepEqual(world.targets, []);
  });

  for (const name of [
    'credentials that are not accepted',
    'a revoked principal',
    'a target that no rule allows',
  ]) {
    it(`for ${name} no sooner than the minimum delay`, async () => {
      const world = createWorld({ ...refusals[name]!.options, minimumDelayMs: 40 });
      const startedAt = performance.now();
      await world.open();
      assert.ok(performance.now() - startedAt >= 39);
    });
  }

  for (const name of ['all tunnels taken', 'a target that refuses', 'an audit log that cannot be written']) {
    it(`for ${name} without the minimum delay`, async () => {
      const startedAt = performance.now();
      await createWorld({ ...refusals[name]!.options, minimumDelayMs: 60_000 }).open();
      assert.ok(performance.now() - startedAt < 30_000);
    });
  }
});

/** The client leaves at a stage, and the stage hangs, or fails as it does when its signal aborts. */
const leavingClients: Readonly<Record<string, (leave: () => void) => WorldOptions>> = {
  'while it is authenticated': (leave) => ({
    authenticator: tokenAuthenticator(() => {
      leave();
      return hang();
    }),
  }),
  'while its principal is counted': (leave) => ({
    async count() {
      leave();
      await Promise.resolve();
    },
  }),
  'while the target is dialled': (leave) => ({
    dial() {
      leave();
      return Promise.reject(new Error('the client has left'));
    },
  }),
  'while the audit log is written': (leave) => ({
    opening() {
      leave();
      return hang();
    },
  }),
  'while it is accepted': (leave) => ({
    accept() {
      leave();
      return Promise.reject(new Error('the client has left'));
    },
  }),
};

describe('openTunnel(), when the client leaves', () => {
  for (const [name, optionsFor] of Object.entries(leavingClients)) {
    const opened = async (): Promise<World> => {
      const world: World = createWorld(optionsFor(() => world.client.abort(new Error('closed'))));
      await world.open();
      return world;
    };

    it(`${name}, ends the session as CLIENT_GONE`, async () => {
      assert.deepEqual(
        (await opened()).ended.map(({ end }) => end),
        ['CLIENT_GONE'],
      );
    });

    it(`${name}, answers nothing`, async () => {
      assert.deepEqual((await opened()).answers, []);
    });

    it(`${name}, releases every limit`, async () => {
      const world = await opened();
      // The count that was on its way is taken back when it arrives.
      while (world.held() > 0) await new Promise(setImmediate);
      assert.equal(world.held(), 0);
    });

    it(`${name}, leaves no connection to the target`, async () => {
      assert.ok((await opened()).targets.every(({ destroyed }) => destroyed));
    });
  }
});

/** A tunnel that has carried `hello` there and back. */
async function established(options: WorldOptions = {}): Promise<{ world: World; over: Promise<void> }> {
  const world = createWorld(options);
  const over = world.open();
  world.clientEnd.write('hello');
  await once(world.clientEnd, 'data');
  return { world, over };
}

describe('openTunnel()', () => {
  it('records the opening before it accepts', async () => {
    const { world } = await established();
    assert.deepEqual(world.events, ['opening', 'accepted', 'opened']);
    world.clientEnd.destroy();
  });

  it('holds its limits while the tunnel is open', async () => {
    const { world } = await established();
    assert.equal(world.held(), 3);
    world.clientEnd.destroy();
  });

  it('records the address that was dialled', async () => {
    const { world } = await established();
    const [record] = [...world.context.sessions.records()];
    assert.deepEqual(record!.dialled, { host: '192.0.2.22', port: 22 });
    world.clientEnd.destroy();
  });

  it('ends as CLOSED when both sides have ended', async () => {
    const { world, over } = await established();
    world.clientEnd.end();
    await over;
    assert.equal(world.ended[0]!.end, 'CLOSED');
  });

  it('accounts for the bytes of both directions', async () => {
    const { world, over } = await established();
    world.clientEnd.end();
    await over;
    const [{ bytesFromClient, bytesFromTarget }] = world.ended as [World['ended'][number]];
    assert.deepEqual({ bytesFromClient, bytesFromTarget }, { bytesFromClient: 5, bytesFromTarget: 5 });
  });

  it('releases every limit when the tunnel has ended', async () => {
    const { world, over } = await established();
    world.clientEnd.end();
    await over;
    assert.equal(world.held(), 0);
  });

  it('ends as TARGET_LOST when the target breaks off', async () => {
    const { world, over } = await established();
    world.targets[0]!.destroy(new Error('reset'));
    await over;
    assert.equal(world.ended[0]!.end, 'TARGET_LOST');
  });

  it('ends as SESSION_EXPIRED after the session time', async () => {
    const { world, over } = await established({ limits: { ...generousLimits, sessionMs: 20 } });
    await over;
    assert.equal(world.ended[0]!.end, 'SESSION_EXPIRED');
  });

  for (const reason of ['KILLED', 'REVOKED', 'GATEWAY_STOPPED'] as const) {
    it(`ends as ${reason} when the gateway ends the session`, async () => {
      const { world, over } = await established();
      world.context.sessions.endAll(reason);
      await over;
      assert.equal(world.ended[0]!.end, reason);
    });
  }

  it('leaves no connection to the target when the gateway ends the session', async () => {
    const { world, over } = await established();
    world.context.sessions.endAll('KILLED');
    await over;
    assert.ok(world.targets[0]!.destroyed);
  });
});

describe('resumeTunnel()', () => {
  const handle: TunnelHandle = {
    sessionId: 'session-1',
    target: { host: 'box', port: 22 },
    address: { host: '192.0.2.22', port: 22 },
    revoke() {},
    prepare: async (offer) => async () => void (await offer.accept()),
  };
  const withHandle = (more: Partial<TunnelHandle> = {}): Pick<WorldOptions, 'tunnels'> => ({
    tunnels: { find: async () => ({ ...handle, ...more }) },
  });

  const resumeRefusals: typeof refusals = {
    'an address at its limit': {
      options: { limits: { ...generousLimits, perAddress: 0 }, ...withHandle() },
      code: 'LIMIT_ADDRESS',
    },
    'credentials that are not accepted': {
      options: { authenticator: tokenAuthenticator(failing('TOKEN_INVALID')), ...withHandle() },
      code: 'TOKEN_INVALID',
    },
    'a revoked principal': { options: { isRevoked: true, ...withHandle() }, code: 'TOKEN_INVALID' },
    'a tunnel that is not there': {
      options: { tunnels: { find: failing('TUNNEL_GONE') } },
      code: 'TUNNEL_GONE',
    },
    'a target that is no longer allowed': {
      options: { policy: { decide: fail('TARGET_DENIED') }, ...withHandle() },
      code: 'TARGET_DENIED',
    },
    'an address that is no longer allowed': {
      options: { evaluateAddress: () => ({ allowed: false, why: 'a test' }), ...withHandle() },
      code: 'ADDRESS_DENIED',
    },
    'a proof that is not valid': {
      options: withHandle({ prepare: failing('REJOIN_INVALID') }),
      code: 'REJOIN_INVALID',
    },
  };

  for (const [name, { options, code }] of Object.entries(resumeRefusals)) {
    it(`refuses ${name} with ${code}`, async () => {
      const world = createWorld(options);
      await world.resume();
      assert.deepEqual(
        world.answers.map((answer) => answer.code),
        [code],
      );
    });

    it(`ends the session of ${name} with ${code}`, async () => {
      const world = createWorld(options);
      await world.resume();
      assert.deepEqual(
        world.ended.map(({ end }) => end),
        [code],
      );
    });

    it(`releases the limits after refusing ${name}`, async () => {
      const world = createWorld(options);
      await world.resume();
      assert.equal(world.held(), 0);
    });
  }

  for (const name of ['a target that is no longer allowed', 'an address that is no longer allowed']) {
    it(`ends the tunnel to ${name}`, async () => {
      let revoked = 0;
      const { options } = resumeRefusals[name]!;
      await createWorld({ ...options, ...withHandle({ revoke: () => void revoked++ }) }).resume();
      assert.equal(revoked, 1);
    });
  }

  it('ends its session as RESUMED, and names the tunnel', async () => {
    const world = createWorld(withHandle());
    await world.resume();
    const [{ end, reason }] = world.ended as [World['ended'][number]];
    assert.deepEqual({ end, reason }, { end: 'RESUMED', reason: 'tunnel session-1' });
  });

  it('dials nothing', async () => {
    const world = createWorld(withHandle());
    await world.resume();
    assert.deepEqual(world.targets, []);
  });

  it('is accepted by a gateway that is stopping', async () => {
    const world = createWorld({ draining: true, ...withHandle() });
    await world.resume();
    assert.equal(world.ended[0]!.end, 'RESUMED');
  });

  it('is not counted as a tunnel of the principal', async () => {
    const world = createWorld({ count: () => assert.fail('counted'), ...withHandle() });
    await world.resume();
    assert.equal(world.ended[0]!.end, 'RESUMED');
  });

  it('ends as CLIENT_GONE when the client leaves while it is accepted', async () => {
    const world: World = createWorld({
      ...withHandle(),
      accept() {
        world.client.abort(new Error('closed'));
        return Promise.reject(new Error('the client has left'));
      },
    });
    await world.resume();
    assert.deepEqual([world.ended[0]!.end, world.answers], ['CLIENT_GONE', []]);
  });

  it('ends with the code of a tunnel that ended while the client was accepted', async () => {
    const world = createWorld({ ...withHandle(), accept: failing('TUNNEL_GONE') });
    await world.resume();
    assert.deepEqual([world.ended[0]!.end, world.answers], ['TUNNEL_GONE', []]);
  });
});
