import assert from 'node:assert/strict';
import { gatewayCommand } from './gateway.ts';
import { output, within } from './process.ts';
import type { World } from './world.ts';

const password = 'correct horse battery';

/** Gives the gateway of a world the account `alice` of the group `dev`. */
export async function addAlice({ gateway }: World): Promise<void> {
  const command = [
    'user',
    'add',
    'alice',
    '--group',
    'dev',
    '--password-stdin',
    '--config',
    gateway.configFile,
  ];
  await output([...gatewayCommand, ...command], { input: `${password}\n` });
}

/** Does with curl, beside the gateway, what alice does in her browser: types the code, lets the machine in, signs in. */
export async function approve(world: World, code: string): Promise<void> {
  const { origin, hostname, port } = new URL(world.url);
  const jar = world.scratch.path(`cookies-${code}`);
  const visit = async (url: string, fields?: Readonly<Record<string, string>>): Promise<string> => {
    const form = Object.entries(fields ?? {}).flatMap(([name, value]) => [
      '--data-urlencode',
      `${name}=${value}`,
    ]);
    const argv = ['curl', '-sSL', '-b', jar, '-c', jar, '-H', `Origin: ${origin}`, ...form, url];
    const way = ['--cacert', world.certificates.authorityFile, '--resolve', `${hostname}:${port}:127.0.0.1`];
    return (await output(within(world.scratch.namespace, [...argv, ...way]))).toString();
  };
  const submit = (page: string, fields: Readonly<Record<string, string>>): Promise<string> => {
    const [, action] = /<form method="post" action="([^"]+)"/.exec(page) ?? assert.fail(page);
    const [form = ''] = /<form[^]*?<\/form>/.exec(page) ?? [];
    const hidden = [...form.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)"/g)];
    return visit(new URL(action!, origin).href, {
      ...Object.fromEntries(hidden.map(([, name, value]) => [name!, value!])),
      ...fields,
    });
  };
  const asked = await submit(await visit(`${world.url}oauth/device`), { user_code: code });
  const signIn = await submit(asked, { confirm: 'yes' });
  assert.match(await submit(signIn, { name: 'alice', password }), /The other machine is signed in/);
}
