import { testPath } from '../support/battery.ts';

testPath('direct', ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
