import { testPath } from '../support/battery.ts';

testPath('haproxy', ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
