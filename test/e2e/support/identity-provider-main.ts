import * as oidc from 'oidc-provider';

// The process behind `startIdentityProvider`: its one argument is its whole configuration.
const { port, clientId, redirectUri, backChannelLogoutUri } = JSON.parse(process.argv[2]!) as {
  port: number;
  clientId: string;
  redirectUri: string;
  backChannelLogoutUri?: string;
};

/** Every user is in these groups at the company. */
const groups = ['company-developers', 'company-canteen'];

const provider = new oidc.default(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: clientId,
      token_endpoint_auth_method: 'none',
      redirect_uris: [redirectUri],
      ...(backChannelLogoutUri !== undefined && {
        backchannel_logout_uri: backChannelLogoutUri,
        backchannel_logout_session_required: true,
      }),
    },
  ],
  claims: { openid: ['sub', 'groups', 'sid'] },
  cookies: { keys: ['test'] },
  features: {
    devInteractions: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  // Its own refuses to speak to loopback, where everything of a test is.
  fetch: (url, { method, headers, body } = {}) => fetch(url, { method, headers, body } as RequestInit),
  findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub, groups }) }),
});
provider.listen(port, '127.0.0.1');
