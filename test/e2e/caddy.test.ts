import { testPath } from './battery.ts';

testPath('caddy', ['relay', 'websocket', 'connect-tcp', 'http']);
