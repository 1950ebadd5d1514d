import { testPath } from './battery.ts';

testPath('nginx', ['relay', 'websocket', 'connect-tcp', 'http']);
