import { testPath } from './battery.ts';

testPath('haproxy', ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
