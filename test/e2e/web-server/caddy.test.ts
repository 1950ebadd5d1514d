import { testPath } from '../support/battery.ts';

testPath('caddy', ['relay', 'websocket', 'connect-tcp', 'http']);
