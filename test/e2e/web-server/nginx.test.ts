import { testPath } from '../support/battery.ts';

testPath('nginx', ['relay', 'websocket', 'connect-tcp', 'http']);
