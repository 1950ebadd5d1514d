import { testPath } from '../support/battery.ts';

testPath('apache', ['relay', 'websocket', 'connect-tcp', 'http']);
