import { testPath } from './battery.ts';

const unbuffered = /proxy_buffering +off;/g;

testPath('nginx', ['http'], undefined, {
  how: ' that buffers what it is not asked not to',
  front: { replacing: [unbuffered, 'proxy_buffering on;'] },
});

testPath('nginx', ['http'], undefined, {
  how: ' that buffers everything',
  front: { replacing: [unbuffered, 'proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;'] },
});
