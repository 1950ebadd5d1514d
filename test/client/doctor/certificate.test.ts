import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inspectorIn } from '../../../client/doctor/certificate.ts';

describe('inspectorIn()', () => {
  for (const name of [
    'Zscaler Inc.',
    'Netskope',
    'Fortinet',
    'Palo Alto Networks',
    'Kaspersky Lab ZAO',
    'mitmproxy',
  ])
    it(`knows ${name}`, () => assert.ok(inspectorIn(name)));

  for (const name of [
    "Let's Encrypt",
    'DigiCert Inc',
    'GlobalSign nv-sa',
    'ACME Corp',
    'Reset Ltd',
    'Google Trust Services',
  ])
    it(`takes ${name} for no proxy`, () => assert.ok(!inspectorIn(name)));
});
